"""Builds of the ledger held against each other: real packages and readers, manifests as reported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.builds.artifacts import Item, collect, new_manifest
from pipeline.builds.environment import listing
from pipeline.compare.bundle import STARTER
from pipeline.compare.showing import Showing
from pipeline.compare.wire import Line
from pipeline.console.comparison_words import places
from pipeline.edge.confined import ConfinedPrograms
from pipeline.edge.conversation import LocalConversation
from pipeline.errors import ComparisonIncomplete, UsageError
from pipeline.operations import comparisons
from pipeline.operations.agreement import compare_builds, reach_here
from pipeline.operations.choosing import Asked
from pipeline.operations.overview import overview
from pipeline.operations.pairs import MOST_BUILDS, MOST_LEAVES_OF_OTHERS
from pipeline.operations.site import Site
from pipeline.records.base import dump, load
from pipeline.records.builds import Environment, Inputs, Manifest, Recipe, Toolchain
from pipeline.records.comparison import Comparison, Verdict
from tests.compare.test_descent import EARLY, LATE, deb, jar
from tests.operations.conftest import WHEN, MakeSite

NAMES = ["sample-a_1_all.deb", "sample-b_1_all.deb"]
COMMIT = "1" * 40

Report = Callable[[Manifest], bytes]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Three packages: `same`, and two that differ in one file."""
    folder = tmp_path_factory.mktemp("packages")
    contents = {"same": b"x", "one": b"built on alpha\n", "two": b"built on beta\n"}
    return {name: deb(folder, {"usr/share/sample/who": data}) for name, data in contents.items()}


def converse(name: str) -> Line:
    """Opens a line to a reader of this machine."""
    return Line(name, LocalConversation([sys.executable, "-I", "-S", "-B", "-c", STARTER], name))


def build(
    site: Site,
    root: Path,
    job: str,
    files: Mapping[str, bytes],
    *,
    report: Report = dump,
    changes: Mapping[str, Any] | None = None,
    dependencies: str = "g/a.jar 1",
    packages: str = "zip=1",
) -> None:
    """Builds as a builder does: a set below `root`, and a report of it in the ledger."""
    start = {"kind": "job.start", "id": job, "branch": "main", "commit": COMMIT, "holder": site.holder()}
    token = str(site.ask(start)["token"])
    deps, deps_text = listing("dependencies.txt", [dependencies])
    tools, tools_text = listing("packages.txt", [packages])
    recipe = Recipe(
        source="/nowhere", branch="main", commit=COMMIT, source_date_epoch=1_700_000_000, java="17+",
        properties={"git.tag": ""}, environment={"TZ": "UTC"},
        toolchain=Toolchain(java="17.0.9", java_home="/j", maven="3", maven_home="/m"),
    )  # fmt: skip
    made = new_manifest(
        job_id=job, server=site.builder, branch="main", commit=COMMIT, created_at=WHEN, token=token
    ).model_copy(
        update={
            "recipe": recipe.model_copy(update=dict(changes or {})),
            "inputs": Inputs(tree=COMMIT, expected=NAMES, dependencies=deps),
            "environment": Environment(machine="here", host=f"{site.builder}-host", packages=tools),
        }
    )
    place = root / f"{job}.files"
    place.mkdir()
    for name, data in files.items():
        (place / name).write_bytes(data)
    items = [Item(place / name, name) for name in files]
    texts = {"dependencies.txt": deps_text, "packages.txt": tools_text}
    done = collect(root / "artifacts", made, items, None, texts=texts)
    request = {"kind": "job.complete", "job_id": job, "token": token, "outcome": "succeeded"}
    site.ask(request, payloads={"manifest": report(done)})


def settled(site: Site, root: Path) -> Site:
    """Returns a site whose artifacts are those below `root`."""
    return replace(site, settings=replace(site.settings, artifacts=root / "artifacts"))


def compared(site: Site, root: Path, *jobs: str) -> Comparison:
    """Compares as the product does, on a machine where all sets lie below `root`."""
    here = settled(site, root)
    return compare_builds(here, Asked(jobs=jobs), [reach_here(here, converse)])


def both(data: bytes, other: bytes | None = None) -> dict[str, bytes]:
    """Returns the files of a build."""
    return {NAMES[0]: data, NAMES[1]: data if other is None else other}


def test_equal_builds_agree(make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]) -> None:
    """Two builders that made the same bytes of the same inputs agree; on one machine not independently."""
    one, two = make_site("build1"), make_site("build2")
    build(one, tmp_path, "job_1", both(packages["same"], packages["one"]))
    build(two, tmp_path, "job_2", both(packages["same"], packages["one"]), dependencies="g/a.jar 1")
    found = compared(one, tmp_path)
    assert (found.verdict, found.scope, found.independent, found.problems) == (
        Verdict.AGREE,
        "builds",
        False,
        [],
    )
    assert [each.name for each in found.artifacts] == NAMES
    assert found.left_build is not None
    assert (found.left_build.builder, found.left_build.job_id) == ("build1", "job_1")
    assert [group.builders for group in found.groups] == [["build1", "build2"]]
    assert [(each.name, each.left, each.right) for each in found.environment if each.left] == [
        ("host", "build1-host", "build2-host")
    ]
    assert found.wire.round_trips == 1


def test_a_file_that_differs_is_gone_into(
    make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]
) -> None:
    """Equal inputs and other bytes: DIFFER, down to the file; what each machine has installed is told."""
    one, two = make_site("build1"), make_site("build2")
    build(one, tmp_path, "job_1", both(packages["same"], packages["one"]))
    build(two, tmp_path, "job_2", both(packages["same"], packages["two"]), packages="zip=2")
    found = compared(one, tmp_path)
    assert found.verdict == Verdict.DIFFER
    (differing,) = [each for each in found.artifacts if each.verdict == Verdict.DIFFER]
    assert any("./usr/share/sample/who" in leaf.path for leaf in differing.leaves)
    assert [group.builders for group in found.groups] == [["build1"], ["build2"]]
    assert ("packages.zip", "1", "2") in [(each.name, each.left, each.right) for each in found.environment]


def test_leaves_are_shown_and_nothing_else_changes(
    make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]
) -> None:
    """What differs between two builds is shown and kept; verdict, leaves and inputs are those without it."""
    one, two = make_site("build1"), make_site("build2")
    build(one, tmp_path, "job_1", both(packages["same"], packages["one"]))
    build(two, tmp_path, "job_2", both(packages["same"], packages["two"]))
    here = settled(one, tmp_path)
    without = compare_builds(here, Asked(), [reach_here(here, converse)])
    showing = Showing(ConfinedPrograms(), here.clock)
    found = compare_builds(here, Asked(), [reach_here(here, converse)], showing)
    (display,) = [each for artifact in found.artifacts for each in artifact.displays]
    assert (display.path[-1], list(display.lines)) == (
        "./usr/share/sample/who",
        ["@ line 1", "-built on alpha", "+built on beta", " "],
    )
    stripped = [each.model_copy(update={"displays": []}) for each in found.artifacts]
    assert (found.verdict, stripped, found.causes) == (without.verdict, without.artifacts, without.causes)


@pytest.mark.parametrize(
    ("changes", "dependencies", "name"),
    [
        ({"maven_opts": "-Xmx2g"}, "g/a.jar 1", "recipe.maven_opts"),
        ({}, "g/a.jar 9", "dependency g/a.jar"),
    ],
)
def test_other_inputs_are_incomparable(
    make_site: MakeSite,
    tmp_path: Path,
    packages: Mapping[str, bytes],
    changes: dict[str, str],
    dependencies: str,
    name: str,
) -> None:
    """Equal bytes of other inputs do not agree: the input is named, also one out of a list."""
    one, two = make_site("build1"), make_site("build2")
    build(one, tmp_path, "job_1", both(packages["same"], packages["one"]))
    build(
        two,
        tmp_path,
        "job_2",
        both(packages["same"], packages["one"]),
        changes=changes,
        dependencies=dependencies,
    )
    found = compared(one, tmp_path)
    assert (found.verdict, [each.name for each in found.inputs]) == (Verdict.INCOMPARABLE, [name])


def test_files_are_hashed_where_they_lie(
    make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]
) -> None:
    """A file that was swapped after its manifest was written is found out, though both sides' are equal."""
    one, two = make_site("build1"), make_site("build2")
    for number, site in enumerate((one, two), 1):
        build(site, tmp_path, f"job_{number}", both(packages["same"], packages["one"]))
    for path in (tmp_path / "artifacts").glob(f"*/*/*/{NAMES[1]}"):
        path.write_bytes(packages["two"])
    found = compared(one, tmp_path)
    assert found.verdict == Verdict.INCOMPLETE
    assert f"{NAMES[1]} on the left side is not the file that its manifest states" in found.problems


@pytest.mark.parametrize("garbage", [b"", b"AGREE", b"[]", b"{}", b'{"a": 1, "a": 1}', b"\xff\xfe"])
def test_a_manifest_that_is_garbage_never_agrees(
    make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes], garbage: bytes
) -> None:
    """What was written over the manifest by hand is no manifest: INCOMPLETE, and it says whose."""
    one, two = make_site("build1"), make_site("build2")
    build(one, tmp_path, "job_1", both(packages["same"], packages["one"]))
    build(two, tmp_path, "job_2", both(packages["same"], packages["one"]))
    here = settled(one, tmp_path)
    found = compare_builds(_Spoiled(here, "build2/manifests", garbage), Asked(), [reach_here(here, converse)])
    assert found.verdict == Verdict.INCOMPLETE
    assert any(problem.startswith("the manifest of the right side") for problem in found.problems)


class _Spoiled(Site):
    """A site whose ledger holds other bytes in one folder."""

    def __init__(self, site: Site, folder: str, data: bytes) -> None:
        super().__init__(**vars(site))
        self._folder, self._data = folder, data

    def state(self, *, fresh: bool = True) -> Any:
        standing = super().state(fresh=fresh)
        view, folder, data = standing.view, self._folder, self._data

        class Other:
            def read(self, path: str) -> bytes | None:
                return data if path.startswith(folder) else view.read(path)

            def names(self, path: str) -> list[str]:
                return view.names(path)

        class Shown:
            def __getattr__(self, name: str) -> Any:
                return Other() if name == "view" else getattr(standing, name)

        return Shown()


def test_one_builder_is_not_two(make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]) -> None:
    """A builder's two builds, named by hand, are INCOMPARABLE however equal they are."""
    one = make_site("build1")
    for job in ("job_1", "job_2"):
        build(one, tmp_path, job, both(packages["same"], packages["one"]))
    found = compared(one, tmp_path, "job_1", "job_2")
    assert found.verdict == Verdict.INCOMPARABLE
    assert found.problems == ["both builds are build1's: that a builder agrees with itself proves nothing"]


def test_of_three_the_groups_are_told(
    make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]
) -> None:
    """Builders are grouped by what is equal; that two agree makes the third no less a dissent."""
    one = make_site("build1")
    one.ask({"kind": "registry.set", "entry": {"name": "build3"}})
    made = {"build1": "one", "build2": "two", "build3": "one"}
    for number, (name, which) in enumerate(made.items(), 1):
        build(make_site(name), tmp_path, f"job_{number}", both(packages["same"], packages[which]))
    found = compared(one, tmp_path)
    assert found.verdict == Verdict.DIFFER
    assert [group.builders for group in found.groups] == [["build1", "build3"], ["build2"]]
    assert (
        found.left_build and found.left_build.builder,
        found.right_build and found.right_build.builder,
    ) == (
        "build1",
        "build2",
    )


def several(make_site: MakeSite, root: Path, packages: Mapping[str, bytes], *which: str) -> Comparison:
    """Compares builds of build1, build2 … whose second package is one of those."""
    one = make_site("build1")
    for number in range(3, len(which) + 1):
        one.ask({"kind": "registry.set", "entry": {"name": f"build{number}"}})
    for number, name in enumerate(which, 1):
        build(make_site(f"build{number}"), root, f"job_{number}", both(packages["same"], packages[name]))
    return compared(one, root)


def jobs_of(found: Comparison) -> tuple[str, str]:
    assert found.left_build is not None
    assert found.right_build is not None
    return found.left_build.job_id, found.right_build.job_id


def test_one_that_dissents_is_held_against_each(
    make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]
) -> None:
    """Of three the two that agree are told as well; the same two contents are gone into once."""
    found = several(make_site, tmp_path, packages, "two", "one", "one")
    assert [group.builders for group in found.groups] == [["build1"], ["build2", "build3"]]
    assert {jobs_of(each): each.verdict for each in found.each_pair()} == {
        ("job_1", "job_2"): Verdict.DIFFER,
        ("job_1", "job_3"): Verdict.DIFFER,
        ("job_2", "job_3"): Verdict.AGREE,
    }
    first, again = (each.artifacts[1] for each in found.each_pair()[:2])
    assert any("./usr/share/sample/who" in leaf.path for leaf in first.leaves)
    assert (again.told_in, again.leaves, again.leaves_omitted) == (["job_1", "job_2"], [], len(first.leaves))
    assert (again.left, again.right) == (first.left, first.right)
    assert found.each_pair()[2].causes == []
    assert Comparison.model_validate(json.loads(dump(found))) == found


def test_three_that_differ_are_three_pairs_with_leaves(
    make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]
) -> None:
    """Each two of three different builds are gone into: no pair stands for another one."""
    found = several(make_site, tmp_path, packages, "one", "two", "same")
    assert [group.builders for group in found.groups] == [["build1"], ["build2"], ["build3"]]
    pairs = found.each_pair()
    assert [jobs_of(each) for each in pairs] == [("job_1", "job_2"), ("job_1", "job_3"), ("job_2", "job_3")]
    assert {each.verdict for each in pairs} == {Verdict.DIFFER}
    shown = [leaf for each in pairs for leaf in each.artifacts[1].leaves if leaf.path[-1].endswith("/who")]
    assert len(shown) == 3
    assert len({(leaf.left, leaf.right) for leaf in shown}) == 3
    assert all(each.artifacts[1].told_in == [] for each in pairs)


def test_two_and_two(make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]) -> None:
    """Two against two: neither is right, four pairs differ in one way, told once, and two agree."""
    found = several(make_site, tmp_path, packages, "one", "two", "one", "two")
    assert [group.builders for group in found.groups] == [["build1", "build3"], ["build2", "build4"]]
    pairs = {jobs_of(each): each for each in found.each_pair()}
    assert len(pairs) == 6
    agree = [at for at, each in pairs.items() if each.verdict == Verdict.AGREE]
    assert agree == [("job_1", "job_3"), ("job_2", "job_4")]
    assert found.verdict == Verdict.DIFFER
    differ = [each.artifacts[1] for each in found.each_pair() if each.verdict == Verdict.DIFFER]
    assert [each.told_in for each in differ] == [[], *[["job_1", "job_2"]] * 3]
    assert {(each.left.sha256, each.right.sha256) for each in differ} == {
        (differ[0].left.sha256, differ[0].right.sha256),
        (differ[0].right.sha256, differ[0].left.sha256),
    }
    (kept,) = comparisons.kept(make_site("build1", "p2").state().view)
    assert [group.builders for group in kept.groups] == [["build1", "build3"], ["build2", "build4"]]


def test_what_is_proved_of_two_contents_is_proved_of_their_builds(
    make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]
) -> None:
    """What makes two contents the same bytes does so for each two builds that have them, and is told once."""
    (tmp_path / "jars").mkdir()
    entries = [("a.txt", b"a"), ("b.txt", b"b")]
    jars = {
        name: deb(tmp_path / "jars", {"usr/share/java/a.jar": jar(entries, when)})
        for name, when in (("early", EARLY), ("late", LATE))
    }
    found = several(make_site, tmp_path, {**packages, **jars}, "early", "late", "early")
    assert {jobs_of(each): each.verdict for each in found.each_pair()} == {
        ("job_1", "job_2"): Verdict.AGREE_NORMALISED,
        ("job_2", "job_3"): Verdict.AGREE_NORMALISED,
        ("job_1", "job_3"): Verdict.AGREE,
    }
    first, again = (each.artifacts[1] for each in found.each_pair()[:2])
    assert "zip-times" in first.normalisers
    assert (again.normalisers, again.normalised_sha256) == (first.normalisers, first.normalised_sha256)
    assert again.told_in == ["job_1", "job_2"]
    assert found.each_pair()[1].normalisers == found.normalisers


def test_what_holds_of_one_host_is_not_said_of_another(
    make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]
) -> None:
    """That a host's name is the cause is proved of the side whose own it is, not of its equal elsewhere."""
    (tmp_path / "hosts").mkdir()
    hosts = {}
    for host in ("build1", "build2"):
        told = jar([("git.properties", f"git.build.host={host}-host\ngit.branch=main\n".encode())])
        hosts[host] = deb(tmp_path / "hosts", {"usr/share/java/a.jar": told})
    found = several(make_site, tmp_path, {**packages, **hosts}, "build1", "build2", "build1")
    pairs = {jobs_of(each): each for each in found.each_pair()}
    assert pairs["job_1", "job_2"].verdict == Verdict.AGREE_NORMALISED
    assert "value-host" in pairs["job_1", "job_2"].normalisers
    other = pairs["job_2", "job_3"]
    assert (other.verdict, other.artifacts[1].told_in) == (Verdict.DIFFER, [])
    assert found.verdict == Verdict.DIFFER
    assert jobs_of(found) == ("job_2", "job_3")


def test_what_is_kept_is_bounded(make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]) -> None:
    """Beside the first pair a thousand leaves of an artifact are kept, and the others are counted."""
    (tmp_path / "many").mkdir()
    many = {
        word: deb(tmp_path / "many", {f"usr/share/sample/{n}": f"{word}{n}".encode() for n in range(1200)})
        for word in ("a", "b", "c")
    }
    found = several(make_site, tmp_path, {**packages, **many}, "a", "b", "c")
    counts = [(len(each.artifacts[1].leaves), places(each.artifacts[1])) for each in found.each_pair()]
    assert counts[0][0] == counts[0][1] >= 1200
    assert [kept for kept, _ in counts[1:]] == [MOST_LEAVES_OF_OTHERS] * 2
    assert all(whole == counts[0][1] for _, whole in counts)


def test_too_many_builds_are_refused(make_site: MakeSite) -> None:
    """More builds than a record holds are refused before anything is hashed."""
    one = make_site("build1")
    for number in range(1, MOST_BUILDS + 2):
        one.ask({"kind": "registry.set", "entry": {"name": f"b{number}"}})
        start = {"kind": "job.start", "id": f"job_{number}", "branch": "main", "commit": COMMIT}
        token = str(one.ask({**start, "builder": f"b{number}", "holder": one.holder()})["token"])
        done = {"kind": "job.complete", "builder": f"b{number}", "job_id": f"job_{number}", "token": token}
        one.ask({**done, "outcome": "succeeded"})
    with pytest.raises(UsageError, match=f"{MOST_BUILDS + 1} builds are too many at once"):
        compare_builds(one, Asked(), [])


def test_of_equal_builds_the_inputs_decide_all_the_same(
    make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]
) -> None:
    """A third of other inputs is incomparable with both that agree: that is told first, and of both."""
    one = make_site("build1")
    one.ask({"kind": "registry.set", "entry": {"name": "build3"}})
    for number in (1, 2, 3):
        more: dict[str, Any] = {"changes": {"maven_opts": "-Xmx2g"}} if number == 3 else {}
        files = both(packages["same"], packages["one"])
        build(make_site(f"build{number}"), tmp_path, f"job_{number}", files, **more)
    found = compared(one, tmp_path)
    told = {jobs_of(each): (each.verdict, [i.name for i in each.inputs]) for each in found.each_pair()}
    assert told == {
        ("job_1", "job_3"): (Verdict.INCOMPARABLE, ["recipe.maven_opts"]),
        ("job_2", "job_3"): (Verdict.INCOMPARABLE, ["recipe.maven_opts"]),
        ("job_1", "job_2"): (Verdict.AGREE, []),
    }
    assert found.verdict == Verdict.INCOMPARABLE
    assert [group.builders for group in found.groups] == [["build1", "build2", "build3"]]


def test_files_that_are_elsewhere_are_said_to_be(
    make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]
) -> None:
    """A build whose files no way leads to is named, with what would have to be said of its builder here."""
    one, two = make_site("build1"), make_site("build2")
    build(one, tmp_path, "job_1", both(packages["same"], packages["one"]))
    build(two, tmp_path, "job_2", both(packages["same"], packages["one"]))
    subprocess.run(["rm", "-r", str(tmp_path / "artifacts" / "build2")], check=True)
    with pytest.raises(
        ComparisonIncomplete, match="What build2 made in job_2 is not on this machine"
    ) as caught:
        compared(one, tmp_path)
    assert "[builders.build2]" in (caught.value.remedy or "")


def test_a_comparison_can_be_written_down(
    make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]
) -> None:
    """What is said of builds is a record like any other: it is read as it was written."""
    one, two = make_site("build1"), make_site("build2")
    build(one, tmp_path, "job_1", both(packages["same"], packages["one"]))
    build(two, tmp_path, "job_2", both(packages["same"], packages["two"]))
    found = compared(one, tmp_path)
    assert Comparison.model_validate(json.loads(dump(found))) == found


def test_a_comparison_is_kept(make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]) -> None:
    """A summary is in the ledger, the whole in a file; comparing again says the same and costs no commit."""
    one, two = make_site("build1"), make_site("build2")
    build(one, tmp_path, "job_1", both(packages["same"], packages["one"]))
    build(two, tmp_path, "job_2", both(packages["same"], packages["two"]))
    found = compared(one, tmp_path)
    (kept,) = comparisons.kept(one.state().view)
    assert (kept.verdict, kept.by, kept.artifacts) == ("DIFFER", "build1", {"AGREE": 1, "DIFFER": 1})
    assert [each.job_id for each in kept.builds] == ["job_1", "job_2"]
    place = comparisons.whole(settled(one, tmp_path), kept)
    assert place is not None
    assert load(Comparison, place.read_bytes(), str(place)) == found
    assert [each.verdict for each in overview(one).comparisons] == ["DIFFER"]
    tip = one.state().tip
    compared(one, tmp_path)
    assert one.state().tip == tip


def test_what_the_ledger_does_not_take_is_said(
    make_site: MakeSite, tmp_path: Path, packages: Mapping[str, bytes]
) -> None:
    """A comparison whose record is refused is a comparison all the same, and it is told."""
    one, two = make_site("build1"), make_site("build2")
    build(one, tmp_path, "job_1", both(packages["same"], packages["one"]))
    build(two, tmp_path, "job_2", both(packages["same"], packages["one"]))
    one.ask({"kind": "registry.set", "entry": {"name": "build2"}, "remove": True})
    told: list[str] = []
    one.say = told.append
    assert compared(one, tmp_path).verdict == Verdict.AGREE
    assert any("the ledger has no record of this comparison: No builder `build2`" in each for each in told)
