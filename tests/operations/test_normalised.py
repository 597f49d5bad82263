"""Promotion of packages that agree only when normalised: what is signed, promoted and verified, and cheats.

The packages are dpkg-deb's: two that differ in the times in a jar, in a host name and in how they are packed;
a third one like them; and one in which a class is another one, beside all that.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.compare.environment import values_of
from pipeline.compare.explaining import explain, normalisers_of
from pipeline.compare.verdicts import judge, overall, read_stated
from pipeline.compare.wire import Line
from pipeline.coordination.counting import Seen
from pipeline.edge.bare import make_bare
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.scratch_root import install_packages
from pipeline.edge.signatures import SshVerifier
from pipeline.errors import (
    ArtifactsInvalid,
    InstallFailed,
    PromotionInvalid,
    PromotionRefused,
    RecordInvalid,
    ReemissionRefused,
    Refused,
    UsageError,
)
from pipeline.operations import history, policy
from pipeline.operations.attest import Attested, statements
from pipeline.operations.comparisons import find_comparison
from pipeline.operations.policy import payloads, rules_of
from pipeline.operations.promote import Order, Promoted, promote
from pipeline.operations.promoted import verify_set
from pipeline.operations.reemission import Normalising, attest_normalised
from pipeline.operations.trust import Signed
from pipeline.records.attestation import BuildFacts, attestation_of
from pipeline.records.base import dump, load, load_json
from pipeline.records.builds import Environment
from pipeline.records.comparison import ComparedArtifact, ComparedBuild, Comparison, Rewrite, Verdict, Wire
from pipeline.records.policy import Policy
from pipeline.records.promotion import Promotion
from pipeline.records.rewriting import names_of, normalisers_in
from pipeline.records.statements import Kind, made
from pipeline.runtime.comparison import open_here
from tests.compare.building import EARLY, LATE, gzipped, package, tarred, tree, zipped
from tests.compare.sides import Near
from tests.contracts.signing import ssh_signer
from tests.operations.test_promote import anybody, ask, current, write_entry
from tests.operations.test_several import together
from tests.operations.yard import BRANCH, Yard, commit, installed

AGENT, COMMON = "debs/agent_1_all.deb", "debs/common_1_all.deb"
USED = ["deb-md5sums", "value-host", "xz-compression", "zip-times"]
Files = dict[str, bytes]


def _agent(folder: Path, host: str, when: int, level: str, payload: bytes = b"a" * 3000) -> bytes:
    inside = {
        "A.class": payload,
        "notes.txt": b"text\n" * 300,
        "git.properties": b"git.build.host=%s\ngit.branch=main\n" % host.encode(),
    }
    jar = zipped(tree(folder / "jar", inside, when))
    files = {"usr/share/sample/a.jar": jar, "usr/share/doc/sample/readme": b"readme\n" * 200}
    script = {"postinst": b"#!/bin/sh\nset -e\ntest -f /usr/share/sample/a.jar\n"}
    return package(tree(folder / "t", files), "-Zxz", level, scripts=script)


def _two_places(folder: Path, first: int, second: int) -> bytes:
    jar = zipped(tree(folder / "jar", {"A.class": b"a" * 3000}, first))
    inner = gzipped(tarred(tree(folder / "tgz", {"x/notes.txt": b"notes\n"}, second)))
    return package(tree(folder / "t", {"usr/share/a.jar": jar, "usr/share/b.tgz": inner}))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What each builder makes, by its name; `evil` is build2's with another class. Of `three` the first
    differs from the second in one file, and from the third in another.
    """
    folder = tmp_path_factory.mktemp("packages")
    common = package(tree(folder / "c", {"usr/share/common": b"common\n"}))
    agents = {
        "build1": _agent(folder, "build1", EARLY, "-z1"),
        "build2": _agent(folder, "build2", LATE, "-z6"),
        "build3": _agent(folder, "build3", LATE + 7200, "-z6"),
        "evil": _agent(folder, "build2", LATE, "-z6", b"a" * 2999 + b"b"),
    }
    assert len(set(agents.values())) == 4
    made: dict[str, Any] = {name: {AGENT: agent, COMMON: common} for name, agent in agents.items()}
    made["three"] = [
        {AGENT: _two_places(folder, *times), COMMON: common}
        for times in ((EARLY, EARLY), (LATE, EARLY), (EARLY, LATE))
    ]
    return made


def near() -> Line:
    """A reader in this process."""
    return Line("here", Near())


def build(yard: Yard, name: str, files: Files, number: int = 1) -> str:
    return yard.build(name, files, number, Environment(host=name, user="builder"))


def folder_of(yard: Yard, job: str) -> Path:
    (folder,) = yard.sites[job.rpartition("-")[2]].settings.artifacts.glob(f"*/*/{job}.*")
    return folder


def compare(yard: Yard, left: str, right: str, number: int = 1) -> Comparison:
    """Compares two jobs' packages as `invoke compare` does, with what is recorded of both builds."""
    with ExitStack() as stack:
        lines, stated, values = [], [], []
        for job in (left, right):
            lines.append(near())
            stack.callback(lines[-1].close)
            found = read_stated(lines[-1].ask({"ask": "files", "root": str(folder_of(yard, job))}))
            assert not isinstance(found, str), found
            stated.append([each for each in found if each.path.endswith(".deb")])
            manifest = (folder_of(yard, job) / "manifest.json").read_bytes()
            values.append(values_of(load_json(manifest, "manifest.json")))
        artifacts = judge(stated[0], stated[1], same_machine=False)
        told = [
            explain(each, lines[0], lines[1], lambda text: None, (values[0], values[1])) for each in artifacts
        ]
    builds = [
        ComparedBuild(builder=job.rpartition("-")[2], job_id=job, commit=commit(number))
        for job in (left, right)
    ]
    return Comparison(
        verdict=overall(told, []),
        scope="builds",
        independent=True,
        left=left,
        right=right,
        artifacts=told,
        left_build=builds[0],
        right_build=builds[1],
        normalisers=normalisers_of(told),
        wire=Wire(bytes=1, round_trips=1),
        duration_seconds=1.0,
    )


def allow(yard: Yard, names: Sequence[str] = USED, **changes: Any) -> None:
    """Puts a policy in force that allows these normalisers."""
    yard.draft(normalisers=sorted(names), **changes)
    yard.sign()


def sign(
    yard: Yard,
    name: str,
    found: Comparison | list[Comparison],
    job: str | None = None,
    start: Callable[[], Line] = near,
) -> Attested:
    how = Normalising(found if isinstance(found, list) else [found], start)
    return attest_normalised(yard.sites[name], yard.trusts[name], yard.signers[name], how, job)


def agree(yard: Yard, packages: Any, number: int = 1) -> tuple[list[str], Comparison]:
    """Lets two build what differs harmlessly, and both sign what that comes to."""
    jobs = [build(yard, name, packages[name], number) for name in ("build1", "build2")]
    found = compare(yard, *jobs, number)
    for name in ("build1", "build2"):
        sign(yard, name, found)
    return jobs, found


def put_forward(
    yard: Yard,
    found: Sequence[Comparison],
    job: str,
    *,
    folder: Path | None = None,
    install: Callable[[Path], None] = installed,
    start: Callable[[], Line] | None = near,
) -> Promoted:
    site, trust = yard.sites["build1"], yard.trusts["build1"]
    return promote(site, trust, yard.signers["operator"], Order(found, job, folder, start), install)


def refused(
    yard: Yard, found: Sequence[Comparison], job: str, error: type[Any] = PromotionRefused, **options: Any
) -> str:
    """Promotes what must be refused, and returns the reason: nothing is current by it, and nothing left."""
    before = current(yard)
    with pytest.raises(error) as caught:
        put_forward(yard, found, job, **options)
    assert type(caught.value) is error
    assert current(yard) == before
    place = yard.sites["build1"].settings.promoted / BRANCH
    assert not [each.name for each in place.glob(".p*")]
    return str(caught.value.reason)


def not_signed(
    yard: Yard,
    name: str,
    found: Comparison | list[Comparison],
    job: str | None = None,
    start: Callable[[], Line] = near,
) -> str:
    """Has a builder sign what it must refuse to, and returns why; it has said nothing by it."""
    before = said(yard)
    with pytest.raises(ReemissionRefused) as caught:
        sign(yard, name, found, job, start)
    assert caught.value.message
    assert said(yard) == before
    return caught.value.reason


def said(yard: Yard, number: int = 1) -> list[Seen]:
    """What stands in the ledger about a commit."""
    site, trust = yard.sites["build1"], yard.trusts["build1"]
    view = site.state().view
    return statements(view, trust, rules_of(view, trust), commit(number))


# What is promoted


def test_what_agrees_only_when_normalised_is_promoted(yard: Yard, packages: Any) -> None:
    """Both builders sign the same bytes, which neither has built; these are promoted, beside the package that
    both have built alike, and anybody can verify them offline.
    """
    allow(yard)
    jobs, found = agree(yard, packages)
    assert (found.verdict, found.normalisers) == (Verdict.AGREE_NORMALISED, USED)
    done = put_forward(yard, [found], jobs[0])
    place = done.folder / "files"
    digests = {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in (AGENT, COMMON)}
    (agent,) = (each for each in found.artifacts if each.name == AGENT)
    assert digests[AGENT] == agent.normalised_sha256
    assert digests[AGENT] not in (agent.left.sha256, agent.right.sha256)
    assert (place / COMMON).read_bytes() == packages["build1"][COMMON]
    assert done.entry.digests == digests
    assert (done.entry.verdict, names_of(done.entry.normalisers)) == ("AGREE-NORMALISED", USED)
    assert (done.excluded, done.entry.dismissed) == ([], [])
    checked = verify_set(done.folder, anybody(yard))
    assert (checked.entry, checked.builders) == (done.entry, ["build1", "build2"])
    everything = history.check(yard.sites["build2"])
    assert (everything.holds, everything.findings) == (True, [])
    left = yard.sites["build1"].settings.promoted / BRANCH
    assert sorted(each.name for each in left.iterdir()) == [".lock", "000001", "current"]
    assert refused(yard, [found], jobs[0]) == "promoted"


def test_each_builder_comes_to_it_by_itself(yard: Yard, packages: Any) -> None:
    """What is signed has what was built beside it, whose bytes are others; the same again is there already;
    and whichever builder's packages are at hand, the same set comes of them.
    """
    allow(yard)
    jobs, found = agree(yard, packages)
    for name, job in zip(("build1", "build2"), jobs, strict=True):
        plain, normalised = sorted(
            (each.statement for each in said(yard) if each.statement.builder == name),
            key=lambda one: len(one.facts.normalisers),
        )
        assert (plain.facts.job, plain.facts.normalisers) == (job, [])
        assert plain.artifacts[AGENT] == hashlib.sha256(packages[name][AGENT]).hexdigest()
        assert normalised.facts.normalisers == normalisers_in(found.artifacts)
        assert normalised.artifacts != plain.artifacts
        assert normalised.artifacts[COMMON] == plain.artifacts[COMMON]
        assert sign(yard, name, found).there
    first = put_forward(yard, [found], jobs[0])
    yard.draft(normalisers=USED, k=1)
    yard.sign()
    for name in ("build1", "build2"):
        sign(yard, name, found)
    second = put_forward(yard, [found], jobs[1], folder=folder_of(yard, jobs[1]))
    assert second.entry.digests == first.entry.digests


def test_the_packages_are_right_inside(yard: Yard, packages: Any, tmp_path: Path) -> None:
    """dpkg-deb reads what is promoted: the sums in it are those of its files, and nothing else changed."""
    allow(yard)
    jobs, found = agree(yard, packages)
    done = put_forward(yard, [found], jobs[0])
    before = tmp_path / "before.deb"
    before.write_bytes(packages["build1"][AGENT])
    listed = [_listed(path) for path in (before, done.folder / "files" / AGENT)]
    assert listed[0] == listed[1]
    after = tmp_path / "after"
    _dpkg("--raw-extract", done.folder / "files" / AGENT, after)
    lines = (after / "DEBIAN/md5sums").read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        digest, _, name = line.partition("  ")
        assert hashlib.md5((after / name).read_bytes()).hexdigest() == digest
    control = _dpkg("--field", done.folder / "files" / AGENT)
    assert control == _dpkg("--field", before)


def _listed(path: Path) -> list[list[str]]:
    """Modes, owners and names; the size of what was replaced is another one."""
    return [[*line.split()[:2], *line.split()[5:]] for line in _dpkg("--contents", path).splitlines()]


def _dpkg(*words: object) -> str:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb on this machine")
    done = subprocess.run(["dpkg-deb", *map(str, words)], capture_output=True, text=True, check=True)
    return done.stdout


def test_a_rollback_to_what_was_normalised(yard: Yard, packages: Any) -> None:
    """It comes back as it was promoted, and no more once the policy does not allow its normalisers."""
    allow(yard)
    jobs, found = agree(yard, packages)
    first = put_forward(yard, [found], jobs[0])
    yard.promote(yard.agree(2), on="build1")
    back = yard.rollback(1)
    assert (back.entry.number, back.entry.restores) == (3, 1)
    assert (back.entry.digests, back.entry.normalisers) == (first.entry.digests, first.entry.normalisers)
    assert back.entry.verdict == "AGREE-NORMALISED"
    assert verify_set(back.folder, anybody(yard)).entry == back.entry
    yard.promote(yard.agree(3), on="build1")
    allow(yard, USED[:1])
    with pytest.raises(PromotionRefused) as caught:
        yard.rollback(1)
    assert caught.value.reason == "normaliser"


def test_what_is_checked_are_the_bytes_that_are_published(yard: Yard, packages: Any) -> None:
    """The install test gets what came out, and a change that it makes is seen."""
    allow(yard, checks=["install"])
    jobs, found = agree(yard, packages)
    (agent,) = (each for each in found.artifacts if each.name == AGENT)
    seen = []

    def look(place: Path) -> None:
        seen.append(sorted(str(each.relative_to(place)) for each in place.rglob("*.deb")))
        seen.append(hashlib.sha256((place / AGENT).read_bytes()).hexdigest())

    def evil(place: Path) -> None:
        (place / AGENT).write_bytes(packages["build1"][AGENT])

    assert refused(yard, [found], jobs[0], PromotionInvalid, install=evil) == "other-bytes"
    put_forward(yard, [found], jobs[0], install=look)
    assert seen == [[AGENT, COMMON], agent.normalised_sha256]


# Who does not allow or did not sign it


def test_the_policy_has_to_allow_it(yard: Yard, packages: Any) -> None:
    """A normaliser that the policy does not name is not signed by, and not promoted by."""
    allow(yard, [name for name in USED if name != "value-host"])
    jobs = [build(yard, name, packages[name]) for name in ("build1", "build2")]
    found = compare(yard, *jobs)
    assert not_signed(yard, "build1", found) == "normaliser"
    assert refused(yard, [found], jobs[0]) == "normaliser"
    hidden = found.model_copy(update={"normalisers": []})
    artifacts = [each.model_copy(update={"normalisers": ["zip-times"]}) for each in found.artifacts]
    hidden = hidden.model_copy(update={"artifacts": artifacts})
    assert not_signed(yard, "build1", hidden) == "normaliser"
    assert refused(yard, [hidden], jobs[0]) == "normaliser"


def test_a_policy_names_normalisers_that_there_are(yard: Yard) -> None:
    """A name that is none is refused where the policy is drafted, and the next draft keeps the others."""
    site, trust = yard.sites["build1"], yard.trusts["build1"]
    place = policy.init(site, trust, policy.Order(0, [], [], [], ["zip-times", "deb-md5sums", "zip-times"]))
    assert load(Policy, place.read_bytes(), "draft").normalisers == ["deb-md5sums", "zip-times"]
    with pytest.raises(UsageError, match="no normaliser 'zip-time'"):
        policy.init(site, trust, policy.Order(0, [], [], [], ["zip-time"]))
    yard.sign()
    draft = policy.init(site, trust, policy.Order(0, [], []))
    assert load(Policy, draft.read_bytes(), "draft").normalisers == ["deb-md5sums", "zip-times"]


def test_both_have_to_sign_what_comes_out(yard: Yard, packages: Any) -> None:
    """Statements of what was built are none of what it comes to; one of two is too few."""
    allow(yard)
    jobs = [build(yard, name, packages[name]) for name in ("build1", "build2")]
    found = compare(yard, *jobs)
    for name, job in zip(("build1", "build2"), jobs, strict=True):
        yard.attest(name, job)
    assert refused(yard, [found], jobs[0]) == "unsigned"
    sign(yard, "build1", found)
    assert refused(yard, [found], jobs[0]) == "other-normalisers"
    sign(yard, "build2", found)
    assert put_forward(yard, [found], jobs[0]).entry.number == 1


def test_a_third_that_was_not_asked_blocks(yard: Yard, packages: Any) -> None:
    """One that built the same and said nothing of what it comes to is not passed over, reported or signed;
    as soon as it says the same of its own bytes, it is no dissent. It is not counted: it was not compared.
    """
    allow(yard)
    jobs, found = agree(yard, packages)
    third = build(yard, "build3", packages["build3"])
    assert refused(yard, [found], jobs[0]) == "dissent"
    yard.attest("build3", third)
    assert refused(yard, [found], jobs[0]) == "dissent"
    sign(yard, "build3", found, third)
    done = put_forward(yard, [found], jobs[0])
    assert [each.builder for each in done.entry.counted] == ["build1", "build2"]
    assert [(each.builder, each.reason) for each in done.excluded] == [("build3", "comparison")]
    assert verify_set(done.folder, anybody(yard)).builders == ["build1", "build2"]


def test_three_of_which_each_two_differ_elsewhere(yard: Yard, packages: Any) -> None:
    """A third that differs harmlessly in another file than the first two do does not become the same by what
    makes those the same; by the steps of both comparisons all three do, and all three are counted.
    """
    allow(yard, [*USED, "tar-times", "gzip-compression", "gzip-header"], k=3)
    jobs = [build(yard, f"build{number}", packages["three"][number - 1]) for number in (1, 2, 3)]
    pairs = [compare(yard, jobs[0], jobs[1]), compare(yard, jobs[0], jobs[2])]
    assert [each.verdict for each in pairs] == [Verdict.AGREE_NORMALISED] * 2
    for name in ("build1", "build2"):
        sign(yard, name, pairs[0])
    assert not_signed(yard, "build3", pairs[0], jobs[2]) == "other-bytes"
    assert refused(yard, pairs[:1], jobs[0]) == "too-few"
    for name in ("build1", "build2"):
        sign(yard, name, pairs)
    assert refused(yard, pairs, jobs[0]) == "too-few"
    sign(yard, "build3", pairs[::-1])
    done = put_forward(yard, pairs, jobs[0])
    assert [each.builder for each in done.entry.counted] == ["build1", "build2", "build3"]
    assert verify_set(done.folder, anybody(yard)).entry == done.entry
    whole = together(*pairs, compare(yard, jobs[1], jobs[2]))  # as one comparison of three says it
    for number, name in enumerate(("build1", "build2", "build3")):
        told = sign(yard, name, whole)
        assert (told.job_id, told.there) == (jobs[number], True)
    assert refused(yard, [whole], jobs[0]) == "promoted"
    of_others = pairs[1].model_copy(
        update={"right_build": ComparedBuild(builder="build3", job_id=jobs[1], commit=commit(1))}
    )
    assert refused(yard, [pairs[0], of_others], jobs[0]) == "comparison"


def test_a_third_with_another_payload_cannot_agree(yard: Yard, packages: Any) -> None:
    """What differs in more than is normalised does not come to these bytes, so its builder says nothing, and
    blocks; the operator may dismiss it by its digest.
    """
    allow(yard)
    jobs, found = agree(yard, packages)
    third = build(yard, "build3", packages["evil"])
    assert not_signed(yard, "build3", found, third) == "other-bytes"
    against = yard.attest("build3", third)
    assert refused(yard, [found], jobs[0]) == "dissent"
    allow(yard, dismissed=[{"sha256": against.sha256, "reason": "a broken disk"}])
    for name in ("build1", "build2"):
        sign(yard, name, found)
    done = put_forward(yard, [found], jobs[0])
    assert done.entry.dismissed == [against.sha256]
    assert verify_set(done.folder, anybody(yard)).entry == done.entry


def test_a_third_is_heard_by_the_ledger_itself(yard: Yard, packages: Any) -> None:
    """A promoter that was made to overlook it is refused by the ledger."""
    allow(yard)
    jobs, found = agree(yard, packages)
    yard.attest("build3", build(yard, "build3", packages["build3"]))
    from pipeline.operations import promote as module

    def some(*of: Any) -> list[Seen]:
        return [each for each in statements(*of) if each.statement.builder != "build3"]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "statements", some)
        patched.setattr(module, "stated", lambda *of: [])
        assert refused(yard, [found], jobs[0]) == "dissent"


# Cheats


def forge(yard: Yard, name: str, like: Seen, by: str = "", **changes: Any) -> str:
    """Publishes in a builder's name what it has said, with something else in it; returns its digest."""
    statement = like.statement
    facts = statement.facts.model_dump(by_alias=True) | {
        key: value for key, value in changes.items() if key != "files"
    }
    said = attestation_of(
        name,
        statement.order,
        BuildFacts.model_validate(facts),
        statement.source.uri.removeprefix("git+"),
        changes.get("files", statement.artifacts),
    )
    signer = yard.signers[by or name]
    signed = Signed(dump(said), signer.sign(dump(said), Kind.ATTESTATION))
    request = {"kind": "attestation.publish", "job_id": said.facts.job, "archive": None}
    yard.sites[name].ask(request, payloads=payloads(signed))
    return signed.sha256


def normalised_of(yard: Yard, name: str) -> Seen:
    (one,) = (e for e in said(yard) if e.statement.builder == name and e.statement.facts.normalisers)
    return one


def one_of_two(yard: Yard, packages: Any) -> tuple[list[str], Comparison, Seen, Seen]:
    """Lets build1 sign all, and build2 what it built; returns build1's last word and build2's."""
    allow(yard)
    jobs = [build(yard, name, packages[name]) for name in ("build1", "build2")]
    found = compare(yard, *jobs)
    sign(yard, "build1", found)
    yard.attest("build2", jobs[1])
    (plain,) = (each for each in said(yard) if each.statement.builder == "build2")
    return jobs, found, normalised_of(yard, "build1"), plain


def test_a_builder_that_signs_what_its_build_does_not_give(yard: Yard, packages: Any) -> None:
    """Other bytes, normalised in the same way, are dissent: its own, or any that it makes up."""
    jobs, found, mine, plain = one_of_two(yard, packages)
    how = mine.statement.facts.normalisers
    forge(yard, "build2", plain, normalisers=how, files=plain.statement.artifacts)
    assert refused(yard, [found], jobs[0]) == "dissent"
    sign(yard, "build2", found)  # nor does it take that back
    assert refused(yard, [found], jobs[0]) == "dissent"


def test_an_agreement_that_somebody_else_signed(yard: Yard, packages: Any) -> None:
    """What build1 signs in build2's name is no second voice, and no agreement of its build."""
    jobs, found, mine, plain = one_of_two(yard, packages)
    how = mine.statement.facts.normalisers
    forge(yard, "build2", plain, by="build1", normalisers=how, files=mine.statement.artifacts)
    assert refused(yard, [found], jobs[0]) == "other-key"
    allow(yard, k=1)
    sign(yard, "build1", found)
    assert refused(yard, [found], jobs[0]) == "dissent"


def test_a_payload_hidden_beside_what_is_harmless(yard: Yard, packages: Any) -> None:
    """A class that is another one is found beside times and packing that are; nothing is signed by that
    comparison, nor by one that was made up to say otherwise, and nothing is promoted.
    """
    allow(yard)
    jobs = [build(yard, "build1", packages["build1"]), build(yard, "build2", packages["evil"])]
    differing = compare(yard, *jobs)
    assert differing.verdict == Verdict.DIFFER
    assert not_signed(yard, "build2", differing) == "comparison"
    for name, job in zip(("build1", "build2"), jobs, strict=True):
        yard.attest(name, job)
    assert refused(yard, [differing], jobs[0]) == "dissent"
    honest = yard.build("build3", packages["build2"], 1, Environment(host="build2", user="builder"))
    good = compare(yard, jobs[0], honest)
    forged = good.model_copy(
        update={"right_build": ComparedBuild(builder="build2", job_id=jobs[1], commit=commit(1))}
    )
    sign(yard, "build1", forged)
    assert not_signed(yard, "build2", forged) == "other-bytes"
    assert refused(yard, [forged], jobs[0]) in ("dissent", "other-normalisers")


def test_a_payload_normaliser_that_somebody_made_up(yard: Yard, packages: Any) -> None:
    """A name that no reader knows does nothing, also where a policy allows it."""
    allow(yard, [*USED, "payload"])
    jobs, found = agree(yard, packages)
    artifacts = []
    for each in found.artifacts:
        rewrites = [one.model_copy(update={"use": [*one.use, "payload"]}) for one in each.rewrites]
        artifacts.append(each.model_copy(update={"rewrites": rewrites}))
    forged = found.model_copy(update={"artifacts": artifacts})
    assert not_signed(yard, "build1", forged) == "unreadable"
    assert refused(yard, [forged], jobs[0]) == "unsigned"


def _spoil(found: Comparison, **changes: Any) -> Comparison:
    artifacts = [each.model_copy(update=changes) if each.name == AGENT else each for each in found.artifacts]
    return found.model_copy(update={"artifacts": artifacts})


def _agent_of(found: Comparison) -> ComparedArtifact:
    (one,) = (each for each in found.artifacts if each.name == AGENT)
    return one


FORGERIES: dict[str, tuple[Callable[[Comparison], Comparison], str]] = {
    "another digest": (lambda c: _spoil(c, normalised_sha256="ff" * 32), "other-bytes"),
    "no digest": (lambda c: _spoil(c, normalised_sha256=None), "other-bytes"),
    "no steps": (lambda c: _spoil(c, rewrites=[]), "rewrites"),
    "the whole alone": (lambda c: _spoil(c, rewrites=[Rewrite(path=[], use=["ar-times"])]), "normaliser"),
    "nothing done": (lambda c: _spoil(c, rewrites=[Rewrite(path=[], use=[])]), "rewrites"),
    "less done": (lambda c: _spoil(c, rewrites=_agent_of(c).rewrites[-1:]), "rewrites"),
    "the jar left as it is": (lambda c: _spoil(c, rewrites=_agent_of(c).rewrites[2:]), "other-bytes"),
    "another name": (lambda c: _spoil(c, name="debs/usage_1_all.deb"), "comparison"),
    "the other file": (lambda c: _spoil(c, name=COMMON), "comparison"),
    "of files": (lambda c: c.model_copy(update={"scope": "files"}), "comparison"),
    "that differs": (lambda c: c.model_copy(update={"verdict": Verdict.DIFFER}), "comparison"),
    "of another commit": (
        lambda c: c.model_copy(
            update={"right_build": ComparedBuild(builder="build2", job_id="x", commit=commit(9))}
        ),
        "comparison",
    ),
    "without a build": (lambda c: c.model_copy(update={"right_build": None}), "comparison"),
}


@pytest.mark.parametrize("yard", ["memory"], indirect=True)
@pytest.mark.parametrize("which", FORGERIES)
def test_a_comparison_that_was_made_up(yard: Yard, packages: Any, which: str) -> None:
    """Nobody signs by it, and nothing is promoted by it."""
    allow(yard)
    jobs, found = agree(yard, packages)
    change, reason = FORGERIES[which]
    assert not_signed(yard, "build1", change(found)) == reason
    with pytest.raises((PromotionRefused, ReemissionRefused)):
        put_forward(yard, [change(found)], jobs[0])
    assert current(yard) is None
    assert put_forward(yard, [found], jobs[0]).entry.number == 1


def test_what_was_signed_replayed_for_other_files(yard: Yard, packages: Any) -> None:
    """The digests of one package under another one's name, of one commit for another, or of another
    builder's job: refused where they are published, or where they are counted.
    """
    allow(yard)
    jobs, found = agree(yard, packages)
    mine = normalised_of(yard, "build2")
    digests = mine.statement.artifacts
    later = build(yard, "build2", packages["build2"], 2)
    for change in ({"files": {"debs/usage_1_all.deb": digests[AGENT]}}, {"job": later}, {"job": jobs[0]}):
        with pytest.raises(Refused) as caught:
            forge(yard, "build2", mine, **change)
        assert caught.value.reason in ("other-bytes", "not-yours")
    swapped = {AGENT: digests[COMMON], COMMON: digests[AGENT]}
    forge(yard, "build2", mine, files=swapped)
    assert refused(yard, [found], jobs[0]) == "dissent"


def test_bytes_that_are_swapped(yard: Yard, packages: Any, tmp_path: Path) -> None:
    """Neither signed nor promoted are files that are others than were reported, whatever they come to."""
    allow(yard)
    jobs, found = agree(yard, packages)
    swapped = tmp_path / "swapped"
    shutil.copytree(folder_of(yard, jobs[0]), swapped)
    for name in ("evil", "build2"):
        (swapped / AGENT).write_bytes(packages[name][AGENT])
        assert refused(yard, [found], jobs[0], ReemissionRefused, folder=swapped) == "changed"
    (folder_of(yard, jobs[1]) / AGENT).write_bytes(packages["build1"][AGENT])
    with pytest.raises(ArtifactsInvalid):
        sign(yard, "build2", found)


@pytest.mark.parametrize("yard", ["memory"], indirect=True)
def test_bytes_that_are_swapped_while_they_are_normalised(yard: Yard, packages: Any) -> None:
    """A file that becomes another one before a reader opens it, or while it reads, is not signed: neither
    what it was nor what it is.
    """
    allow(yard)
    jobs = [build(yard, name, packages[name]) for name in ("build1", "build2")]
    found = compare(yard, *jobs)
    place = folder_of(yard, jobs[0]) / AGENT

    def before() -> Line:
        place.write_bytes(packages["build2"][AGENT])
        return near()

    class Meanwhile(Near):
        def send(self, data: bytes) -> None:
            if b'"ask":"again"' in data:
                place.write_bytes(packages["build2"][AGENT])
            super().send(data)

    for start in (before, lambda: Line("here", Meanwhile())):
        place.write_bytes(packages["build1"][AGENT])
        assert not_signed(yard, "build1", found, start=start) == "changed"
    place.write_bytes(packages["build1"][AGENT])
    assert sign(yard, "build1", found).normalisers == normalisers_in(found.artifacts)


def test_a_reader_that_lies_while_it_is_promoted(yard: Yard, packages: Any) -> None:
    """What it gives is hashed as it is written: other bytes than it said are not promoted."""
    allow(yard)
    jobs, found = agree(yard, packages)

    class Lying(Near):
        def send(self, data: bytes) -> None:
            super().send(data)
            if b'"ask":"piece"' in data:
                answer = json.dumps({"bytes": "ZXZpbA=="}).encode()
                self._answers = len(answer).to_bytes(4, "big") + answer

    reason = refused(yard, [found], jobs[0], ReemissionRefused, start=lambda: Line("here", Lying()))
    assert reason in ("other-bytes", "unreadable")


def test_an_entry_that_hides_how_it_came_about(yard: Yard, packages: Any) -> None:
    """A promoter that calls it built alike, or names fewer normalisers, is believed by nobody."""
    allow(yard)
    jobs, found = agree(yard, packages)
    done = put_forward(yard, [found], jobs[0])
    value = done.entry.model_dump(mode="json")
    for change in ({"normalisers": []}, {"verdict": "AGREE"}):
        with pytest.raises(RecordInvalid):
            made(Promotion, value | change)
    write_entry(yard, done.folder, dump(made(Promotion, value | {"verdict": "AGREE", "normalisers": []})))
    with pytest.raises(PromotionInvalid) as caught:
        verify_set(done.folder, anybody(yard))
    assert caught.value.reason == "other-normalisers"
    fewer = [each for each in done.entry.normalisers if each != "value-host"]
    write_entry(yard, done.folder, dump(made(Promotion, value | {"normalisers": fewer})))
    with pytest.raises(PromotionInvalid) as caught:
        verify_set(done.folder, anybody(yard))
    assert caught.value.reason == "other-normalisers"
    foreign = sorted([*done.entry.normalisers, "payload"])
    write_entry(yard, done.folder, dump(made(Promotion, value | {"normalisers": foreign})))
    with pytest.raises(PromotionInvalid) as caught:
        verify_set(done.folder, anybody(yard))
    assert caught.value.reason == "normalisers"


# Where comparisons come from


def test_a_comparison_is_a_file_or_one_that_was_kept_here(yard: Yard, packages: Any) -> None:
    """By its file, its id in the ledger or one of its jobs; one made elsewhere has to be brought."""
    from pipeline.errors import NotFound
    from pipeline.operations.comparisons import keep, kept
    from pipeline.operations.queue import find

    jobs = [build(yard, name, packages[name]) for name in ("build1", "build2")]
    found = compare(yard, *jobs)
    site, other = yard.sites["build1"], yard.sites["build2"]
    keep(site, found, [find(site.state().view, each)[0] for each in jobs])
    (one,) = kept(other.state().view)
    assert normalisers_in(find_comparison(site, one.id).artifacts) == normalisers_in(found.artifacts)
    for job in jobs:
        assert find_comparison(site, job) == find_comparison(site, one.id)
    with pytest.raises(NotFound, match="build1 made it"):
        find_comparison(other, one.id)
    brought = yard.folder / "brought.json"
    brought.write_bytes(dump(found))
    assert load(Comparison, dump(find_comparison(other, str(brought))), "x") == load(
        Comparison, dump(found), "x"
    )
    with pytest.raises(UsageError):
        find_comparison(other, "nothing")


# With OpenSSH, git, dpkg and readers of their own


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Yard]:
    make_bare(tmp_path / "remote.git")
    (tmp_path / "private").mkdir()
    made_yard = Yard(
        tmp_path,
        lambda name: GitRefs(tmp_path / f"{name}.git", str(tmp_path / "remote.git")),
        lambda name: ssh_signer(tmp_path / "private", name),
        SshVerifier(),
    )
    made_yard.begin()
    yield made_yard
    made_yard.close()


def test_from_end_to_end_with_real_parts(real: Yard, packages: Any) -> None:
    """Signed with ssh-keygen, written anew by readers in processes of their own, installed by dpkg, promoted,
    and verified by the command.
    """
    allow(real, checks=["install"])
    of = {name: {AGENT: packages[name][AGENT]} for name in ("build1", "build2")}
    jobs = [build(real, name, of[name]) for name in ("build1", "build2")]
    found = compare(real, *jobs)
    for name in ("build1", "build2"):
        sign(real, name, found, start=open_here)

    def install(place: Path) -> None:
        try:
            assert install_packages(place) == [AGENT]
        except InstallFailed as exc:
            if exc.reason != "not-here":
                raise

    done = put_forward(real, [found], jobs[0], install=install, start=open_here)
    root = real.folder / "keys/root.pub"
    text = ask(real, "verify", done.folder, "--root-key", root)
    assert (text.returncode, text.stderr) == (0, "")
    assert f"Normalised, so that all builders have the same bytes: {', '.join(USED)}." in text.stdout
    told = json.loads(ask(real, "verify", done.folder, "--root-key", root, "--json").stdout)
    assert told["entry"]["verdict"] == "AGREE-NORMALISED"
    (done.folder / "files" / AGENT).write_bytes(of["build1"][AGENT])
    spoiled = ask(real, "verify", done.folder, "--root-key", root)
    assert (spoiled.returncode, "other bytes" in spoiled.stderr) == (PromotionInvalid.exit_code, True)
