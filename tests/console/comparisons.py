"""Comparisons to render: realistic ones, one that is hostile in every text, and one with 10,000 leaves."""

from __future__ import annotations

from pipeline.records.comparison import (
    ComparedArtifact,
    ComparedBuild,
    ComparedCause,
    ComparedDisplay,
    ComparedGroup,
    ComparedLeaf,
    ComparedPair,
    ComparedSide,
    Comparison,
    Difference,
    Rebuild,
    Rebuilds,
    Verdict,
    Wire,
)

JOB = "01931c5e-1f6a-7e2b-9f3a-5c0d7a44e1b2"
COMMIT = "4f1c0de5a9b7c3d2e1f0a9b8c7d6e5f4a3b2c1d0"

#: What a name may hold to steer a terminal, a page, a message or its reader.
HOSTILE: tuple[str, ...] = (
    "<script>window.stolen=1</script>",
    "</script><script>window.stolen=2</script>",
    "<img src=x onerror=window.stolen=3>",
    "\"><svg onload='window.stolen=4'>",
    "<!--<script>",
    "invoice\u202egpj.exe",
    "one\ntwo\r\nthree\ttab",
    "\x1b[2J\x1b]0;owned\x07bell\x9b31m",
    "bytes \udce9\udcff",
    "line\u2028separator\u2029paragraph",
    "`tick` ``two`` `",
    "a|b|c \\| d\\",
    "@everyone #1 https://evil.example/ www.evil.example mailto:a@b.example",
    "[text](https://evil.example) ![image](https://evil.example/x.png)",
    "*bold* _under_ ~~struck~~ $math$ ${shell} %s {0}",
    "&lt;b&gt; &amp; &#64;",
    "שלום עולם",
    "日本語" * 40,
    "z\u0301\u0301a\u200bzero\ufeffwidth",
    "",
    " ",
    "-" * 300,
    "javascript:window.stolen=5",
    "__proto__",
    "constructor",
)


def leaf(*path: str, what: str = "content", cause: str | None = None, **more: object) -> ComparedLeaf:
    """Makes a leaf at the path."""
    return ComparedLeaf.model_validate({"path": list(path), "what": what, "cause": cause, **more})


def artifact(name: str, verdict: Verdict, *leaves: ComparedLeaf, **more: object) -> ComparedArtifact:
    """Makes an artifact, with sizes and digests that fit its verdict."""
    same = verdict is Verdict.AGREE
    side = {"size_bytes": 97_032_104, "sha256": "8c" * 32}
    other = side if same else {"size_bytes": 97_032_120, "sha256": "9c" * 32}
    fields = {"left": ComparedSide(**side), "right": ComparedSide(**other), **more}  # type: ignore[arg-type]
    return ComparedArtifact.model_validate(
        {"name": name, "verdict": verdict, "leaves": list(leaves), **fields}
    )


def build(builder: str, commit: str = COMMIT) -> ComparedBuild:
    """Makes a side's build."""
    return ComparedBuild(builder=builder, job_id=JOB, commit=commit)


def comparison(verdict: Verdict, *artifacts: ComparedArtifact, **more: object) -> Comparison:
    """Makes a comparison of two builds."""
    fields: dict[str, object] = {
        "verdict": verdict,
        "scope": "builds",
        "independent": True,
        "left": "build1.example.org:/srv/builds/artifacts/1f6a",
        "right": "build2.example.org:/var/lib/pipeline/artifacts/1f6a",
        "left_build": build("build1"),
        "right_build": build("build2"),
        "artifacts": list(artifacts),
        "wire": Wire(bytes=931_104, round_trips=42),
        "duration_seconds": 13.04,
        **more,
    }
    return Comparison.model_validate(fields)


def realistic() -> Comparison:
    """Two builds of CloudStack that differ, some of it explained, as a reader would meet them."""
    management = "cloudstack-management_4.21.0.0-SNAPSHOT_all.deb"
    common = "cloudstack-common_4.21.0.0-SNAPSHOT_all.deb"
    ui = "cloudstack-ui_4.21.0.0-SNAPSHOT_all.deb"
    jar = "./usr/share/cloudstack-management/lib/cloudstack-4.21.0.0-SNAPSHOT.jar"
    zipped = "./usr/share/cloudstack-common/vms/agent.zip"
    data = ("data.tar.xz", "data")
    sums = ("control.tar.xz", "data", "./md5sums")
    times = {"what": "time", "cause": "timestamp"}
    return comparison(
        Verdict.DIFFER,
        artifact("cloudstack-agent_4.21.0.0-SNAPSHOT_all.deb", Verdict.AGREE),
        artifact(
            common,
            Verdict.AGREE_NORMALISED,
            leaf(
                common, *data, zipped, count=467, **times,
                left="_run.sh: 2026-11-24 23:46:32", right="_run.sh: 2026-11-25 09:10:38",
            ),
            leaf(
                common, *data, zipped, what="attributes", count=117, cause="umask",
                left="cloud-agent.jar: external 81a40000", right="cloud-agent.jar: external 81b40000",
                evidence="0644 and 0664: the hosts' umasks are 0022 and 0002",
            ),
            leaf(common, *sums, cause="follows", left="25507 bytes", right="25507 bytes"),
            normalisers=["zip-times", "zip-modes"],
            normalised_sha256="ab" * 32,
        ),
        artifact(
            management,
            Verdict.DIFFER,
            leaf(
                management, *data, jar, count=83_546, **times,
                left="META-INF/versions/9/net/bytebuddy/agent/builder/AgentBuilder$TypeStrategy$Default$4.class:"
                " 2026-11-24 23:50:10",
                right="META-INF/versions/9/net/bytebuddy/agent/builder/AgentBuilder$TypeStrategy$Default$4.class:"
                " 2026-11-25 09:14:36",
            ),
            leaf(
                management, *data, jar, "META-INF/sun-jaxb.episode", cause="timestamp",
                left="line 3: <!-- Generated 2026-11-24T23:49:55Z -->",
                right="line 3: <!-- Generated 2026-11-25T09:14:22Z -->",
            ),
            leaf(
                management, *data, jar, "com/cloud/utils/Version.class",
                left='constant 14: "/home/build/one/cloudstack"', right='constant 14: "/srv/two/cloudstack"',
                evidence="each side's own build folder, which its builder recorded", cause="path",
            ),
            leaf(
                management, *data, "./usr/share/cloudstack-management/webapp/color.less",
                left=f"468276 bytes, sha256 {'8396ab91' * 8}", right=f"468392 bytes, sha256 {'b3bc8c16' * 8}",
            ),
            leaf(management, *data, "./etc/cloudstack/extra.conf", what="name", left="extra.conf"),
            leaf(management, *sums, cause="follows", left="71914 bytes", right="71914 bytes"),
            displays=[
                ComparedDisplay(
                    path=[management, *data, "./usr/share/cloudstack-management/webapp/color.less"],
                    tool="text",
                    lines=["@ line 1055", " 5)`);", "-box-shadow: rgba(39,", "+box-shadow: rgba(52,"],
                    omitted=12, note="long lines are broken after ; { } , >",
                ),
                ComparedDisplay(
                    path=[management, *data, jar, "com/cloud/utils/Version.class"], tool="javap",
                    lines=["@ line 9", "-         0: iconst_1", "+         0: iconst_2"],
                    confined="as nobody, without a network",
                ),
            ],
        ),
        artifact(
            ui,
            Verdict.DIFFER,
            leaf(
                ui, *data, "./usr/share/cloudstack-ui/color.less",
                left=f"468276 bytes, sha256 {'8396ab91' * 8}", right=f"468392 bytes, sha256 {'b3bc8c16' * 8}",
            ),
        ),
        artifact("cloudstack-docs_4.21.0.0-SNAPSHOT_all.deb", Verdict.AGREE),
        artifact(
            "cloudstack-marvin_4.21.0.0-SNAPSHOT_all.deb", Verdict.INCOMPLETE,
            problem="data.tar.xz → data → Marvin.tar.gz (right) ends in the middle of a member",
        ),
        environment=[
            Difference(name="user", left="build", right="jenkins"),
            Difference(name="umask", left="0022", right="0002", explains=["umask"]),
            Difference(name="path", left="/home/build/one", right="/srv/two", explains=["path"]),
            Difference(name="timezone", left="UTC", right="Europe/London", explains=["timestamp"]),
            *(
                Difference(name=f"packages.lib{n}", left=f"1.{n}-1", right=f"1.{n}-2" if n % 3 else None)
                for n in range(20)
            ),
        ],
        causes=[
            ComparedCause(
                name="timestamp", leaves=3, proved=True, normalisers=["zip-times"],
                text="Entries carry the time at which they were packed.",
                remedy="Set project.build.outputTimestamp in the root POM.",
            ),
            ComparedCause(
                name="umask", leaves=1, proved=True, normalisers=["zip-modes"],
                text="Modes come from the umask of whoever builds.", remedy="umask 0022 in the recipe.",
            ),
            ComparedCause(
                name="path", leaves=1, text="A file holds the folder in which it was built.",
                remedy="Build in one fixed folder: `--set reproducible=true`.",
            ),
            ComparedCause(name="follows", leaves=2, proved=True, text="md5sums follow from the files above."),
        ],
        normalisers=["zip-times", "zip-modes"],
    )  # fmt: skip


def other_inputs() -> Comparison:
    """Two builds of different commits."""
    return comparison(
        Verdict.INCOMPARABLE,
        artifact("one.deb", Verdict.DIFFER, leaf("one.deb", "control.tar.xz", "./control")),
        inputs=[
            Difference(name="commit", left=COMMIT, right="5" * 40),
            Difference(name="dependencies.jetty.jar", left="11" * 32, right=None),
        ],
        right_build=build("build2", "5" * 40),
    )


def agreeing(independent: bool = True) -> Comparison:
    """Two builds that agree."""
    return comparison(
        Verdict.AGREE,
        *(artifact(f"package{n}.deb", Verdict.AGREE) for n in range(8)),
        independent=independent,
    )


def pair(
    verdict: Verdict, left: str, right: str, *artifacts: ComparedArtifact, **more: object
) -> ComparedPair:
    """Makes one more pair of builders' builds."""
    builds = [ComparedBuild(builder=name, job_id=f"job_{name}", commit=COMMIT) for name in (left, right)]
    return ComparedPair.model_validate(
        {
            "verdict": verdict,
            "independent": True,
            "left": f"{left}.example.org:/srv",
            "right": f"{right}.example.org:/srv",
            "left_build": builds[0],
            "right_build": builds[1],
            "artifacts": list(artifacts),
            **more,
        }
    )


def several() -> Comparison:
    """Four builders: two agree, a third differs from both in one way, a fourth from all in another."""
    told = {"told_in": ["job_build1", "job_build3"], "leaves_omitted": 1}
    ours = [artifact("one.deb", Verdict.DIFFER, leaf("one.deb", "./who", left="alpha", right="beta"))]
    again = artifact("one.deb", Verdict.DIFFER, **told)
    same = artifact("one.deb", Verdict.AGREE)
    fourth = artifact("one.deb", Verdict.DIFFER, leaf("one.deb", "./when", left="alpha", right="gamma"))
    theirs = artifact("one.deb", Verdict.DIFFER, leaf("one.deb", "./both", left="beta", right="gamma"))
    as_fourth = artifact("one.deb", Verdict.DIFFER, told_in=["job_build1", "job_build4"], leaves_omitted=1)
    first = ComparedBuild(builder="build1", job_id="job_build1", commit=COMMIT)
    return comparison(
        Verdict.DIFFER,
        *ours,
        left_build=first,
        right_build=first.model_copy(update={"builder": "build3", "job_id": "job_build3"}),
        groups=[ComparedGroup(builders=names) for names in (["build1", "build2"], ["build3"], ["build4"])],
        pairs=[
            pair(Verdict.DIFFER, "build1", "build4", fourth),
            pair(Verdict.DIFFER, "build3", "build4", theirs),
            pair(Verdict.DIFFER, "build2", "build3", again),
            pair(Verdict.DIFFER, "build2", "build4", as_fourth),
            pair(Verdict.AGREE, "build1", "build2", same),
        ],
    )


def rebuilt() -> Comparison:
    """Two builds of which what differs was built again: two leaves depend on the host, one on chance."""
    deb = "cloudstack-marvin_4.21.0.0-SNAPSHOT_all.deb"
    zone = {
        "kind": "host-dependent",
        "makes": ["timezone"],
        "how": "alone",
        "text": "host-dependent: the time zone makes it",
        "evidence": "build1 with the time zone of build2 makes what build2 makes",
        "remedy": "TZ=UTC",
    }
    chance = {
        "kind": "random",
        "text": "random",
        "evidence": "two builds on build1 and two on build2 differ from each other",
        "remedy": "seed it",
    }
    return comparison(
        Verdict.DIFFER,
        artifact(
            deb,
            Verdict.DIFFER,
            leaf(deb, "data", "./a/zone.txt", left="00:00", right="05:45", rebuilt=zone),
            leaf(deb, "data", "./a/other.txt", left="00:00", right="05:45", rebuilt=zone),
            leaf(deb, "data", "./a/PKG-INFO", left="Id: 1", right="Id: 2", evidence="line 3", rebuilt=chance),
        ),
        rebuilds=Rebuilds(
            built="of the whole recipe",
            builds=[
                Rebuild(name="build1, again (1 of 2)", side="left", duration_seconds=40.2),
                Rebuild(name="build1, again (2 of 2)", side="left", duration_seconds=39.8),
                Rebuild(
                    name="build1 with the umask of build2",
                    side="left",
                    changed={"umask": "077"},
                    problem="compile in core: no symbol",
                    duration_seconds=12.0,
                ),
            ],
            modules=["cloud-api"],
            not_varied=["the clock: no build is given another"],
            notes=["build2 is another machine: nothing was built there"],
        ),
    )


def hostile() -> Comparison:
    """A comparison in which every text that a builder or an archive chooses is hostile."""
    artifacts = [
        artifact(
            name,
            list(Verdict)[n % 5],
            *(leaf(name, "data", other, HOSTILE[(n + m) % len(HOSTILE)], what=other or "content",
                   left=name, right=other, cause=other or None, evidence=name, count=1 + m % 3,
                   rebuilt={"kind": "random", "text": name, "evidence": other} if m % 2 else None)
              for m, other in enumerate(HOSTILE)),
            problem=name if n % 2 else None, normalisers=[name],
            displays=[
                ComparedDisplay(path=[name, name], tool="text", lines=[*HOSTILE, *(f"+{o}" for o in HOSTILE)],
                                omitted=3, note=name, confined=name),
                ComparedDisplay(path=[name], problem=name),
            ],
        )
        for n, name in enumerate(HOSTILE)
    ]  # fmt: skip
    differences = [Difference(name=name, left=name, right=None, explains=[name]) for name in HOSTILE]
    return comparison(
        Verdict.DIFFER,
        *artifacts,
        left=HOSTILE[1],
        right=HOSTILE[5] + HOSTILE[7],
        left_build=None,
        problems=list(HOSTILE),
        inputs=differences,
        environment=differences,
        causes=[
            ComparedCause(name=name, text=name, remedy=name, leaves=3, normalisers=[name]) for name in HOSTILE
        ],
        normalisers=list(HOSTILE),
        groups=[ComparedGroup(builders=["build1"]), ComparedGroup(builders=["build2"])],
        pairs=[
            pair(Verdict.DIFFER, "build1", "build2", *artifacts, problems=list(HOSTILE)),
            pair(Verdict.INCOMPARABLE, "build1", "build3", *artifacts, inputs=differences),
        ],
        rebuilds=Rebuilds(
            built=HOSTILE[0],
            builds=[
                Rebuild(name=name, side="left", changed={name: name}, problem=name if n % 2 else None)
                for n, name in enumerate(HOSTILE)
            ],
            modules=list(HOSTILE),
            not_varied=list(HOSTILE),
            notes=list(HOSTILE),
        ),
    )


def large(leaves: int = 10_000) -> Comparison:
    """One package in which so many class files differ, some hundreds in each folder."""
    name = "cloudstack-management_4.21.0.0-SNAPSHOT_all.deb"
    jar = "./usr/share/cloudstack-management/lib/cloudstack-4.21.0.0-SNAPSHOT.jar"
    made = [
        leaf(
            name, "data.tar.xz", "data", jar, f"com/cloud/module{n % 23}/Service{n}.class",
            left=f"4711 bytes, sha256 {n:064x}", right=f"4712 bytes, sha256 {n + 7:064x}",
            cause="timestamp" if n % 4 else None,
        )
        for n in range(leaves)
    ]  # fmt: skip
    cause = ComparedCause(name="timestamp", leaves=leaves - leaves // 4, text="A time is in each of them.")
    return comparison(
        Verdict.DIFFER,
        artifact(name, Verdict.DIFFER, *made, leaves_omitted=321),
        artifact("other.deb", Verdict.AGREE),
        causes=[cause],
    )
