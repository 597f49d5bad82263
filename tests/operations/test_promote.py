"""Promotion from end to end: what is promoted, how it is verified, and every way to cheat."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.edge.bare import make_bare
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.signatures import SshVerifier
from pipeline.errors import (
    FileFailed,
    InstallFailed,
    LedgerError,
    NotFound,
    Outdated,
    PolicyInvalid,
    PromotionInvalid,
    PromotionRefused,
    Refused,
    SignatureInvalid,
    TrustError,
)
from pipeline.ledger.history import Standing
from pipeline.operations import history, policy
from pipeline.operations.attest import attest_built
from pipeline.operations.policy import payloads
from pipeline.operations.promote import Order, finish, promote
from pipeline.operations.promoted import verify_set
from pipeline.operations.site import Site
from pipeline.operations.trust import POLICY, Signed
from pipeline.records import paths
from pipeline.records.base import dump
from pipeline.records.comparison import Verdict
from pipeline.records.policy import Policy
from pipeline.records.statements import Kind, made
from tests.contracts.signing import FakeSigner, ssh_signer
from tests.operations.yard import BRANCH, FILES, OTHER, Yard, commit, installed

ROOT = Path(__file__).resolve().parents[2]


def refused(yard: Yard, jobs: list[str], **options: Any) -> str:
    """Promotes what must be refused, and returns the reason; nothing has become current by it."""
    before = current(yard)
    with pytest.raises(PromotionRefused) as caught:
        yard.promote(jobs, **options)
    assert current(yard) == before
    return caught.value.reason


def current(yard: Yard) -> Path | None:
    pointer = yard.sites["build1"].settings.promoted / BRANCH / "current"
    return pointer.resolve() if pointer.is_symlink() else None


def anybody(yard: Yard) -> Any:
    """A machine that has nothing but the root key."""
    (yard.folder / "anybody").mkdir(exist_ok=True)
    return yard.trust("anybody")


# What is promoted


def test_what_two_builders_made_is_promoted(yard: Yard) -> None:
    """The set lies complete below the pointer, and anybody with the root key can verify it offline."""
    done = yard.promote(yard.agree())
    assert current(yard) == done.folder
    assert {name: (done.folder / "files" / name).read_bytes() for name in FILES} == FILES
    assert [(each.before, each.name) for each in done.changes] == [(None, name) for name in sorted(FILES)]
    found = verify_set(done.folder, anybody(yard))
    assert (found.entry, found.builders, found.keys) == (done.entry, ["build1", "build2"], "separate")
    assert found.entry.as_of in (yard.sites["build1"].ledger.refs.since(found.entry.as_of, None) or [])
    checked = history.check(yard.sites["build2"])
    assert (checked.holds, checked.findings) == (True, [])


def test_nothing_but_the_set_is_left(yard: Yard) -> None:
    """After a promotion, and after a refusal, no private folder remains."""
    jobs = yard.agree()
    refused(yard, jobs, verdict=Verdict.DIFFER)
    yard.promote(jobs)
    place = yard.sites["build1"].settings.promoted / BRANCH
    assert sorted(each.name for each in place.iterdir()) == [".lock", "000001", "current"]


def test_the_next_one_says_what_changed(yard: Yard) -> None:
    """The difference from the last promoted build is shown; the entry names it as its predecessor."""
    first = yard.promote(yard.agree())
    second = yard.promote(yard.agree(2, OTHER))
    assert [each.name for each in second.changes] == ["agent.jar"]
    assert (second.entry.number, second.entry.restores) == (2, None)
    assert second.entry.predecessor == Signed(dump(first.entry), None).sha256
    assert verify_set(second.folder, anybody(yard)).entry.number == 2


def test_a_rollback_goes_forward(yard: Yard) -> None:
    """What came back has a new number, the old bytes, and names what it restores."""
    first = yard.promote(yard.agree())
    yard.promote(yard.agree(2, OTHER))
    back = yard.rollback(1)
    assert (back.entry.number, back.entry.action, back.entry.restores) == (3, "rollback", 1)
    assert back.entry.digests == first.entry.digests
    assert current(yard) == back.folder
    assert verify_set(back.folder, anybody(yard)).entry == back.entry
    with pytest.raises(PromotionRefused) as caught:
        yard.rollback(1)
    assert caught.value.reason == "promoted"
    with pytest.raises(NotFound):
        yard.rollback(9)


# Who does not count


def test_one_is_too_few(yard: Yard) -> None:
    """One builder's signature, however well it compares, is not two."""
    jobs = [yard.build("build1"), yard.build("build2")]
    assert refused(yard, jobs) == "unsigned"
    yard.attest("build1", jobs[0])
    assert refused(yard, jobs) == "too-few"


@pytest.mark.parametrize(("by", "reason"), [("", "bad-signature"), ("stranger", "unknown-key")])
def test_what_nobody_signed_does_not_count(yard: Yard, by: str, reason: str) -> None:
    """A statement with a signature of nobody, or of a key that the policy does not name, is none."""
    jobs = [yard.build("build1"), yard.build("build2")]
    yard.attest("build1", jobs[0])
    forge(yard, "build2", jobs[1], by)
    assert refused(yard, jobs) == reason


def forge(yard: Yard, name: str, job: str, by: str) -> None:
    """Publishes a builder's true statement with another signature, as whoever may write to the ledger can."""

    class Forger(FakeSigner):
        def sign(self, data: bytes, kind: Kind) -> bytes:
            return yard.signers[by].sign(data, kind) if by else b"nobody's"

    from pipeline.operations.attest import attest

    attest(yard.sites[name], yard.trusts[name], Forger(name), job)


def test_a_key_of_another_name_is_not_used(yard: Yard) -> None:
    """A builder signs with a key that the policy names for it, or not at all."""
    job = yard.build("build1")
    for by in ("build2", "stranger"):
        with pytest.raises(SignatureInvalid) as caught:
            yard.attest("build1", job, by)
        assert caught.value.reason == "unknown-key"


@pytest.mark.parametrize("yard", ["memory"], indirect=True)
def test_a_build_that_cannot_be_signed_is_a_build(yard: Yard) -> None:
    """Right after a build nothing that keeps it from being signed is raised: what it was is said."""
    job = yard.build("build1")
    site, trust = yard.sites["build1"], yard.trusts["build1"]
    said: list[str] = []
    site.say = said.append
    assert attest_built(site, trust, yard.signers["build1"], job) is not None
    trust.note("policy", 9, "f" * 64)
    assert attest_built(site, trust, yard.signers["build1"], job) is None
    assert "number 9" in said[-1]


def test_a_revoked_key(yard: Yard) -> None:
    """A revocation counts at once, for what was signed before as well, and for whoever verifies later."""
    jobs = yard.agree()
    done = yard.promote(jobs)
    user = anybody(yard)
    assert verify_set(done.folder, user).revocations == 0
    said = revoke(yard, "build2")
    with pytest.raises(SignatureInvalid, match="revoked"):
        yard.attest("build2", jobs[1])
    assert refused(yard, jobs) == "revoked-key"
    user.keep("revocations.json", said)
    with pytest.raises(PromotionInvalid) as caught:
        verify_set(done.folder, user)
    assert caught.value.reason == "revoked-key"


def revoke(yard: Yard, name: str) -> Signed:
    site, trust = yard.sites["build1"], yard.trusts["build1"]
    said = policy.revoke(site, trust, yard.signers["root"], name, "lost")
    return Signed(dump(said), yard.signers["root"].sign(dump(said), Kind.REVOCATIONS))


def test_only_the_root_revokes(yard: Yard) -> None:
    """A list that somebody else signed revokes nothing, whatever its number."""
    jobs = yard.agree()
    with pytest.raises(PolicyInvalid) as caught:
        policy.revoke(yard.sites["build1"], yard.trusts["build1"], yard.signers["build3"], "build2", "x")
    assert caught.value.reason == "unknown-key"
    value = {
        "kind": "revocations",
        "format": 1,
        "ledger": policy.first_commit(yard.sites["build3"]),
        "number": 999,
        "revoked": [{"key": yard.signers["build2"].public_key.fingerprint, "reason": "x"}],
    }
    from pipeline.records.policy import Revocations

    data = dump(made(Revocations, value))
    forged = Signed(data, yard.signers["build3"].sign(data, Kind.REVOCATIONS))
    yard.sites["build3"].ask({"kind": "revocation.publish"}, payloads=payloads(forged))
    assert yard.promote(jobs).entry.revocations == 0


def test_revocations_that_are_withheld(yard: Yard) -> None:
    """A machine that has seen a list, or a policy that names its number, is not shown fewer."""
    jobs = yard.agree()
    revoke(yard, "build3")
    yard.draft()
    signed = yard.sign()
    assert signed.revocations == 1
    (yard.trusts["build2"].folder / "revocations.json").unlink(missing_ok=True)
    trust = yard.trusts["build2"]
    with pytest.raises(Outdated) as caught:
        trust.rules({})
    assert caught.value.reason == "revocations"
    kept = yard.trusts["build1"].folder / "revocations.json"
    kept.unlink()
    with pytest.raises(Outdated):
        yard.trusts["build1"].rules({})
    yard.attest("build1", jobs[0])
    assert kept.exists()  # the ledger has it


def test_two_keys_of_one_builder(yard: Yard) -> None:
    """A builder to which the policy gives two keys, and which signs with both, counts once."""
    second = FakeSigner("build1-second")
    yard.draft()
    place = yard.trusts["build1"].folder / "draft.json"
    value = json.loads(place.read_text())
    value["builders"][0]["keys"].append(second.public_key.text)
    place.write_text(json.dumps(value))
    yard.sign()
    jobs = [yard.build("build1"), yard.build("build2")]
    yard.signers["second"] = second
    yard.attest("build1", jobs[0])
    yard.attest("build1", jobs[0], "second")
    assert refused(yard, jobs) == "too-few"


def test_one_key_as_two_builders(yard: Yard) -> None:
    """The policy that names one key for two builders is not signed, and not read if it is."""
    yard.draft()
    place = yard.trusts["build1"].folder / "draft.json"
    value = json.loads(place.read_text())
    value["builders"][1]["keys"] = value["builders"][0]["keys"]
    place.write_text(json.dumps(value))
    from pipeline.errors import RecordInvalid

    with pytest.raises(RecordInvalid, match="twice"):
        yard.sign()
    from pipeline.records.base import dump_json

    data = dump_json(value)
    signed = Signed(data, yard.signers["root"].sign(data, Kind.POLICY))
    with pytest.raises(PolicyInvalid, match="twice"):
        yard.trusts["build2"].read_policy(signed, "x")


def test_a_key_that_a_builder_enrolled(yard: Yard) -> None:
    """A policy in which a builder names another key, signed by itself, is nobody's policy."""
    jobs = yard.agree()
    known, _ = yard.trusts["build1"].policy()
    value = known.model_dump(mode="json") | {"number": 2, "k": 1}
    value["builders"][2]["keys"] = [yard.signers["stranger"].public_key.text]
    data = dump(made(Policy, value))
    folder = yard.trusts["build1"].folder
    (folder / POLICY).write_bytes(data)
    for signature in (yard.signers["build3"].sign(data, Kind.POLICY), b"", None):
        if signature is None:
            (folder / f"{POLICY}.sig").unlink()
        else:
            (folder / f"{POLICY}.sig").write_bytes(signature)
        with pytest.raises(PolicyInvalid) as caught:
            yard.promote(jobs)
        assert caught.value.reason in ("unknown-key", "unsigned")
    with pytest.raises(PolicyInvalid):
        yard.draft()


def test_k_lowered_in_the_ledger(yard: Yard) -> None:
    """Whatever a builder writes into the ledger as a policy, two are needed: nobody reads it there."""
    jobs = [yard.build("build1"), yard.build("build2")]
    yard.attest("build1", jobs[0])
    site = yard.sites["build3"]
    from pipeline.operations import site as sites

    config = sites.build_config(site.state().view).model_dump(mode="json") | {"k": 1, "policy": {"k": 1}}
    site.ask({"kind": "config.set", "config": config})
    assert refused(yard, jobs) == "too-few"


def test_an_older_policy(yard: Yard) -> None:
    """A machine that has seen number 2 does not go back to number 1, though the root signed both."""
    jobs = yard.agree()
    old = yard.folder / "old"
    shutil.copytree(yard.trusts["build1"].folder, old)
    yard.draft(k=3)
    yard.sign()
    assert refused(yard, jobs) == "other-policy"
    yard.hand_out(old)
    with pytest.raises(Outdated) as caught:
        yard.promote(jobs)
    assert caught.value.reason == "older"


def test_a_folder_that_cannot_be_locked(yard: Yard) -> None:
    """Where the numbers that were seen cannot be kept, or no set put together, that is said: no traceback."""
    jobs = yard.agree()
    site, trust = yard.sites["build1"], yard.trusts["build1"]
    (yard.folder / "file").write_bytes(b"")
    with pytest.raises(FileFailed, match="cannot be locked"):
        replace(trust, folder=yard.folder / "file").note("policy", 1, "f" * 64)
    site.settings = replace(site.settings, promoted=yard.folder / "file")
    with pytest.raises(FileFailed, match="cannot be locked"):
        yard.promote(jobs)


def test_two_policies_under_one_number(yard: Yard) -> None:
    """Two policies with the same number and both of the root: the second is refused."""
    known, _ = yard.trusts["build2"].policy()
    data = dump(made(Policy, known.model_dump(mode="json") | {"k": 1}))
    folder = yard.trusts["build2"].folder
    (folder / POLICY).write_bytes(data)
    (folder / f"{POLICY}.sig").write_bytes(yard.signers["root"].sign(data, Kind.POLICY))
    with pytest.raises(Outdated) as caught:
        yard.trusts["build2"].policy()
    assert caught.value.reason == "forked"


def test_a_machine_without_a_root_key_believes_nobody(yard: Yard) -> None:
    """Without the setting, with another key or with garbage in it, no policy is believed."""
    trust = yard.trusts["build1"]
    for key, reason in (
        (None, "no-root"),
        ("garbage", "no-root"),
        (yard.signers["stranger"].public_key.text, "unknown-key"),
    ):
        with pytest.raises(PolicyInvalid) as caught:
            replace(trust, root_key=key).policy()
        assert caught.value.reason == reason


def test_who_may_promote(yard: Yard) -> None:
    """A builder's key, the root's and a stranger's promote nothing; a promoter's does."""
    jobs = yard.agree()
    for by in ("build1", "root", "stranger"):
        with pytest.raises(SignatureInvalid) as caught:
            yard.promote(jobs, by=by)
        assert caught.value.reason == "unknown-key"
    done = yard.promote(jobs)
    said = revoke(yard, "operator")
    with pytest.raises(SignatureInvalid) as caught:
        yard.promote(yard.agree(2))
    assert caught.value.reason == "revoked-key"
    user = anybody(yard)
    user.keep("revocations.json", said)
    with pytest.raises(SignatureInvalid, match="revoked"):
        verify_set(done.folder, user)


# Dissent


def test_dissent_blocks(yard: Yard) -> None:
    """A third builder with other bytes stops it, whether it has signed or only reported them."""
    jobs = yard.agree()
    third = yard.build("build3", OTHER)
    assert refused(yard, jobs) == "dissent"
    yard.attest("build3", third)
    assert refused(yard, jobs) == "dissent"


def test_dissent_that_the_operator_dismissed(yard: Yard) -> None:
    """Named in the next policy, it is passed over, and the entry says so."""
    jobs = yard.agree()
    third = yard.attest("build3", yard.build("build3", OTHER))
    yard.draft(dismissed=[{"sha256": third.sha256, "reason": "a broken disk"}])
    yard.sign()
    for name, job in zip(("build1", "build2"), jobs, strict=True):
        yard.attest(name, job)
    done = yard.promote(jobs)
    assert done.entry.dismissed == [third.sha256]
    assert verify_set(done.folder, anybody(yard)).entry == done.entry


def test_dissent_withheld(yard: Yard) -> None:
    """A promoter that does not look at dissent is refused by the ledger itself."""
    jobs = yard.agree()
    yard.attest("build3", yard.build("build3", OTHER))
    blind(yard, jobs, "dissent")


def blind(yard: Yard, jobs: list[str], reason: str) -> None:
    """Promotes as one who was made to overlook a statement, by a pipeline of its own."""
    from pipeline.operations import promote as module

    real = module.statements

    def some(view: Any, trust: Any, rules: Any, of: str) -> Any:
        return [each for each in real(view, trust, rules, of) if each.statement.builder != "build3"]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "statements", some)
        patched.setattr(module, "stated", lambda *of: [])
        assert refused(yard, jobs) == reason


def test_dismissed_by_the_promoter_alone(yard: Yard) -> None:
    """An entry that passes over dissent which the policy does not dismiss is believed by nobody."""
    jobs = yard.agree()
    third = yard.attest("build3", yard.build("build3", OTHER))
    from pipeline.operations import promote as module

    real = module._entry

    def entry(*args: Any) -> Any:
        said = real(*args)
        return made(type(said), said.model_dump(mode="json") | {"dismissed": [third.sha256]})

    def some(view: Any, trust: Any, rules: Any, of: str) -> Any:
        found = statements_of(view, trust, rules, of)
        return [each for each in found if each.statement.builder != "build3"]

    statements_of = module.statements
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_entry", entry)
        patched.setattr(module, "statements", some)
        patched.setattr(module, "stated", lambda *of: [])
        done = yard.promote(jobs)
    with pytest.raises(PromotionInvalid) as caught:
        verify_set(done.folder, anybody(yard))
    assert caught.value.reason == "dismissed"


@dataclass
class Meanwhile(Site):
    """A site on which something happens right after the ledger was read for the `at`-th time."""

    happens: Callable[[], object] = lambda: None
    at: int = 2
    reads: int = 0

    def state(self, *, fresh: bool = True) -> Standing:
        standing = super().state(fresh=fresh)
        self.reads += 1
        if self.reads == self.at:
            self.happens()
        return standing


def meanwhile(yard: Yard, happens: Callable[[], object]) -> None:
    """Lets something happen between the last look at the ledger and the entry."""
    site = yard.sites["build1"]
    # promote reads, finish reads, and then the decision does.
    known = {k: v for k, v in vars(site).items() if k not in ("happens", "at", "reads")}
    yard.sites["build1"] = Meanwhile(**known, happens=happens, at=3)


def test_dissent_that_comes_while_it_is_decided(yard: Yard) -> None:
    """A statement that lands between decision and entry is read, and blocks."""
    jobs = yard.agree()
    said: list[str] = []

    def dissents() -> None:
        said.append(yard.attest("build3", yard.build("build3", OTHER)).sha256)

    meanwhile(yard, dissents)
    assert refused(yard, jobs) == "dissent"
    assert len(said) == 1


def test_a_revocation_that_comes_while_it_is_decided(yard: Yard) -> None:
    """A key that is revoked between decision and entry does not count."""
    jobs = yard.agree()
    operator = yard.sites["build2"]

    def revokes() -> None:
        policy.revoke(operator, yard.trusts["build2"], yard.signers["root"], "build2", "lost")

    meanwhile(yard, revokes)
    assert refused(yard, jobs) == "revoked-key"


def test_a_promotion_that_comes_while_it_is_decided(yard: Yard) -> None:
    """Two promoters at once: the second goes on from the first one's entry, with the next number."""
    jobs = yard.agree()
    newer = yard.agree(2, OTHER)

    def another() -> None:
        order_on = yard.compared(*newer)
        from pipeline.operations.promote import Order, promote

        folder = next(yard.sites["build2"].settings.artifacts.glob(f"*/*/{newer[1]}.*"))
        order = Order([order_on], newer[1], folder)
        promote(yard.sites["build2"], yard.trusts["build2"], yard.signers["operator"], order, installed)

    meanwhile(yard, another)
    done = yard.promote(jobs)
    assert (done.entry.number, done.entry.commit) == (2, commit(1))


# Bytes


def test_bytes_swapped_between_compare_and_promote(yard: Yard) -> None:
    """A file that is another one by now, is gone, or is a link, is not promoted."""
    jobs = yard.agree()
    (folder,) = yard.sites["build1"].settings.artifacts.glob(f"*/*/{jobs[0]}.*")
    order = yard.compared(*jobs)
    swapped = yard.folder / "swapped"
    shutil.copytree(folder, swapped)
    (swapped / "agent.jar").write_bytes(b"evil!\n")
    assert refused(yard, jobs, folder=swapped, artifacts=order.artifacts) == "other-bytes"
    (swapped / "agent.jar").unlink()
    with pytest.raises(FileFailed):
        yard.promote(jobs, folder=swapped)
    (swapped / "agent.jar").symlink_to(folder / "agent.jar")
    with pytest.raises(FileFailed, match="symbolic link"):
        yard.promote(jobs, folder=swapped)
    assert current(yard) is None


def test_bytes_swapped_while_they_are_checked(yard: Yard) -> None:
    """What a check does to the files is seen; what happens to the originals meanwhile changes nothing."""
    jobs = yard.agree()
    yard.draft(checks=["install"])
    yard.sign()
    for name, job in zip(("build1", "build2"), jobs, strict=True):
        yard.attest(name, job)
    (folder,) = yard.sites["build1"].settings.artifacts.glob(f"*/*/{jobs[0]}.*")

    def evil(place: Path) -> None:
        (place / "agent.jar").write_bytes(b"evil!\n")

    with pytest.raises(PromotionInvalid) as caught:
        yard.promote(jobs, install=evil)
    assert caught.value.reason == "other-bytes"
    order = yard.compared(*jobs)

    def late(place: Path) -> None:
        (folder / "agent.jar").write_bytes(b"evil!\n")

    done = yard.promote(jobs, install=late, artifacts=order.artifacts)
    assert (done.folder / "files/agent.jar").read_bytes() == FILES["agent.jar"]
    assert done.entry.checks == ["install"]


def test_what_cannot_be_installed_is_not_promoted(yard: Yard) -> None:
    """A check that fails stops it, and leaves nothing behind."""
    yard.draft(checks=["install"])
    yard.sign()
    jobs = yard.agree()

    def fails(place: Path) -> None:
        raise InstallFailed("postinst ended with status 1.", reason="install")

    with pytest.raises(InstallFailed):
        yard.promote(jobs, install=fails)
    assert current(yard) is None


def test_what_was_signed_is_what_lies_there(yard: Yard) -> None:
    """A builder whose files are others than it reported signs nothing."""
    from pipeline.errors import ArtifactsInvalid

    job = yard.build("build1")
    (folder,) = yard.sites["build1"].settings.artifacts.glob(f"*/*/{job}.*")
    (folder / "agent.jar").write_bytes(b"evil!\n")
    with pytest.raises(ArtifactsInvalid, match=r"agent\.jar"):
        yard.attest("build1", job)


def test_a_builder_that_can_read_anothers_key(yard: Yard, tmp_path: Path) -> None:
    """Keys that lie beside one's own are found, said in the statement, and block."""
    keys = tmp_path / "shared"
    keys.mkdir()
    for name in ("build1", "build2"):
        (keys / f"{name}.pub").write_text(yard.signers[name].public_key.text)
        (keys / name).write_text("private")
    site = yard.sites["build1"]
    site.settings = replace(site.settings, signing_key=str(keys / "build1"))
    assert refused(yard, yard.agree()) == "shared-keys"
    yard.draft(allow_shared_keys=True)
    yard.sign()
    done = yard.promote(yard.agree(2))
    assert (done.entry.keys, verify_set(done.folder, anybody(yard)).keys) == ("shared", "shared")


# Replay


def test_an_older_promotion_replayed_in_the_ledger(yard: Yard) -> None:
    """An entry that was there once, with its good signature, is refused by the ledger."""
    first = yard.promote(yard.agree())
    yard.promote(yard.agree(2, OTHER))
    site = yard.sites["build3"]
    view = site.state().view
    path = paths.promotion(BRANCH, 1)
    signed = Signed(view.read(path) or b"", view.read(paths.signature(path)))
    from pipeline.coordination.trust import basis_of

    basis = basis_of(view, BRANCH, first.entry.commit)
    with pytest.raises(Refused) as caught:
        site.ask({"kind": "promotion.enter", "branch": BRANCH, "basis": basis}, payloads=payloads(signed))
    assert caught.value.reason == "replayed"


def test_an_older_promotion_shown_to_a_user(yard: Yard) -> None:
    """Who has verified number 2 is not given number 1 as the newest."""
    first = yard.promote(yard.agree())
    second = yard.promote(yard.agree(2, OTHER))
    user = anybody(yard)
    verify_set(first.folder, user)
    verify_set(second.folder, user)
    with pytest.raises(Outdated) as caught:
        verify_set(first.folder, user)
    assert caught.value.reason == "older"


def test_a_signature_in_the_place_of_anothers(yard: Yard) -> None:
    """Who publishes a statement first, with a signature of nobody, does not keep its author from it."""
    jobs = [yard.build("build1"), yard.build("build2")]
    forge(yard, "build2", jobs[1], "")
    for name, job in zip(("build1", "build2"), jobs, strict=True):
        yard.attest(name, job)
    done = yard.promote(jobs)
    assert verify_set(done.folder, anybody(yard)).builders == ["build1", "build2"]


def test_two_entries_under_one_number(yard: Yard) -> None:
    """A promoter that signs two sets with one number is caught by whoever has seen one of them."""
    done = yard.promote(yard.agree())
    user = anybody(yard)
    verify_set(done.folder, user)
    forked = yard.folder / "forked"
    shutil.copytree(done.folder, forked)
    entry = made(type(done.entry), done.entry.model_dump(mode="json") | {"as_of": "f" * 40})
    write_entry(yard, forked, dump(entry))
    with pytest.raises(Outdated) as caught:
        verify_set(forked, user)
    assert caught.value.reason == "forked"


def write_entry(yard: Yard, folder: Path, data: bytes, by: str = "operator") -> None:
    (folder / "promotion.json").write_bytes(data)
    (folder / "promotion.json.sig").write_bytes(yard.signers[by].sign(data, Kind.PROMOTION))


def test_a_set_of_an_older_policy(yard: Yard) -> None:
    """When the policy in force is a newer one, a set has to be promoted again under it."""
    done = yard.promote(yard.agree())
    user = anybody(yard)
    verify_set(done.folder, user)
    yard.draft(k=3)
    yard.sign()
    user.folder.mkdir(parents=True, exist_ok=True)
    for name in (POLICY, f"{POLICY}.sig"):
        shutil.copy(yard.trusts["build1"].folder / name, user.folder / name)
    with pytest.raises(Outdated) as caught:
        verify_set(done.folder, user)
    assert caught.value.reason == "policy"


# A set that somebody has changed


def spoil_file(folder: Path) -> None:
    (folder / "files/agent.jar").write_bytes(b"evil!\n")


def remove_file(folder: Path) -> None:
    (folder / "files/agent.jar").unlink()


def add_file(folder: Path) -> None:
    (folder / "files/extra.jar").write_bytes(b"")


def link_file(folder: Path) -> None:
    (folder / "files/agent.jar").rename(folder / "agent.jar")
    (folder / "files/agent.jar").symlink_to(folder / "agent.jar")


def link_folder(folder: Path) -> None:
    (folder / "files/more").rename(folder / "more")
    (folder / "files/more").symlink_to(folder / "more")


def drop_attestation(folder: Path) -> None:
    (folder / "attestations/build2.json").unlink()


def unsign_attestation(folder: Path) -> None:
    (folder / "attestations/build2.json.sig").unlink()


def swap_attestations(folder: Path) -> None:
    shutil.copy(folder / "attestations/build1.json", folder / "attestations/build2.json")
    shutil.copy(folder / "attestations/build1.json.sig", folder / "attestations/build2.json.sig")


def drop_entry(folder: Path) -> None:
    (folder / "promotion.json").unlink()


def edit_entry(folder: Path) -> None:
    place = folder / "promotion.json"
    place.write_bytes(place.read_bytes().replace(b'"number": 1', b'"number": 2'))


def unsign_entry(folder: Path) -> None:
    (folder / "promotion.json.sig").unlink()


def edit_policy(folder: Path) -> None:
    place = folder / "policy.json"
    place.write_bytes(place.read_bytes().replace(b'"k": 2', b'"k": 1'))


def drop_policy(folder: Path) -> None:
    (folder / "policy.json").unlink()


SPOILED: list[tuple[Callable[[Path], None], type[TrustError], str]] = [
    (spoil_file, PromotionInvalid, "other-bytes"),
    (remove_file, PromotionInvalid, "missing"),
    (add_file, PromotionInvalid, "extra"),
    (link_file, PromotionInvalid, "unreadable"),
    (link_folder, PromotionInvalid, "extra"),
    (drop_attestation, PromotionInvalid, "too-few"),
    (unsign_attestation, PromotionInvalid, "unsigned"),
    (swap_attestations, PromotionInvalid, "too-few"),
    (drop_entry, PromotionInvalid, "no-entry"),
    (edit_entry, SignatureInvalid, "bad-signature"),
    (unsign_entry, SignatureInvalid, "unsigned"),
    (edit_policy, PolicyInvalid, "bad-signature"),
    (drop_policy, PromotionInvalid, "no-policy"),
]


@pytest.mark.parametrize("yard", ["memory"], indirect=True)
@pytest.mark.parametrize(
    ("spoil", "error", "reason"), SPOILED, ids=lambda each: getattr(each, "__name__", "")
)
def test_a_set_that_was_changed(
    yard: Yard, spoil: Callable[[Path], None], error: type[TrustError], reason: str
) -> None:
    """Each thing in a set that is spoiled, missing or one too many has an error that says which."""
    done = yard.promote(yard.agree())
    copy = yard.folder / "copy"
    shutil.copytree(done.folder, copy)
    spoil(copy)
    with pytest.raises(error) as caught:
        verify_set(copy, anybody(yard))
    assert (type(caught.value), caught.value.reason) == (error, reason)


def test_an_entry_that_a_builder_signed(yard: Yard) -> None:
    """Only a promoter's signature makes an entry; a builder that signs one is a stranger to it."""
    done = yard.promote(yard.agree())
    write_entry(yard, done.folder, dump(done.entry), by="build1")
    with pytest.raises(SignatureInvalid) as caught:
        verify_set(done.folder, anybody(yard))
    assert caught.value.reason == "unknown-key"


def test_a_promoter_cannot_promote_what_nobody_built(yard: Yard) -> None:
    """With a promoter's key alone, other bytes cannot be made to verify."""
    done = yard.promote(yard.agree())
    spoil_file(done.folder)
    import hashlib

    value = done.entry.model_dump(mode="json")
    value["artifacts"][0] |= {"sha256": hashlib.sha256(b"evil!\n").hexdigest(), "size_bytes": 6}
    write_entry(yard, done.folder, dump(made(type(done.entry), value)))
    with pytest.raises(PromotionInvalid) as caught:
        verify_set(done.folder, anybody(yard))
    assert caught.value.reason == "other-bytes"


# Crashes


class Crash(Exception):
    """A power loss."""


@pytest.mark.parametrize("point", ["copied", "prepared", "entered"])
def test_a_crash_is_gone_on_from(yard: Yard, point: str) -> None:
    """Wherever it falls, afterwards the set is promoted once, and whole."""
    jobs = yard.agree()

    def step(name: str) -> None:
        if name == point:
            raise Crash

    site = yard.sites["build1"]
    site.step = step
    with pytest.raises(Crash):
        yard.promote(jobs)
    site.step = lambda name: None
    if point == "entered":
        moved = finish(site, BRANCH)
        assert moved == current(yard)
        assert refused(yard, jobs) == "promoted"
    else:
        assert finish(site, BRANCH) is None
        yard.promote(jobs)
    place = site.settings.promoted / BRANCH
    assert sorted(each.name for each in place.iterdir()) == [".lock", "000001", "current"]
    assert verify_set(place / "current", anybody(yard)).entry.number == 1


@pytest.mark.parametrize("yard", ["memory"], indirect=True)
def test_a_set_that_was_overtaken_is_kept(yard: Yard) -> None:
    """Who was interrupted when its entry was in the ledger has its set in the end, whoever promoted since."""
    jobs, newer = yard.agree(), yard.agree(2, OTHER)
    site = yard.sites["build1"]

    def step(name: str) -> None:
        if name == "entered":
            raise Crash

    site.step = step
    with pytest.raises(Crash):
        yard.promote(jobs)
    site.step = lambda name: None
    folder = next(yard.sites["build2"].settings.artifacts.glob(f"*/*/{newer[1]}.*"))
    order = Order([yard.compared(*newer)], newer[1], folder)
    promote(yard.sites["build2"], yard.trusts["build2"], yard.signers["operator"], order, installed)
    moved = finish(site, BRANCH)
    assert moved == current(yard) == site.settings.promoted / BRANCH / "000001"
    assert verify_set(moved, anybody(yard)).entry.number == 1
    assert yard.rollback(1).entry.number == 3
    moved.rename(prepared := moved.with_name(f".prepared-{'0' * 32}"))
    assert finish(site, BRANCH) == moved
    assert not prepared.exists()
    assert current(yard) == moved.with_name("000003")
    prepared.mkdir()  # what a removal that was interrupted has left
    assert finish(site, BRANCH) is None
    assert not prepared.exists()


def test_a_ledger_that_does_not_answer(yard: Yard, tmp_path: Path) -> None:
    """An entry that waits in the outbox is moved into place by the next promote, once it has landed."""
    if not (tmp_path / "remote.git").exists():
        pytest.skip("a remote in memory is never away")
    jobs = yard.agree()
    site = yard.sites["build1"]

    def step(name: str) -> None:
        if name == "prepared":
            (tmp_path / "remote.git").rename(tmp_path / "away.git")

    site.step = step
    site.settings = replace(site.settings, patience_seconds=0.5)
    with pytest.raises(LedgerError):
        yard.promote(jobs)
    site.step = lambda name: None
    (tmp_path / "away.git").rename(tmp_path / "remote.git")
    assert current(yard) is None
    site.ledger.deliver()
    assert refused_after(yard, jobs) == "promoted"
    assert (
        verify_set(yard.sites["build1"].settings.promoted / BRANCH / "current", anybody(yard)).entry.number
        == 1
    )


def refused_after(yard: Yard, jobs: list[str]) -> str:
    with pytest.raises(PromotionRefused) as caught:
        yard.promote(jobs)
    return caught.value.reason


# With OpenSSH


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Yard]:
    """The same with git and with keys of ssh-keygen."""
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


def test_from_end_to_end_with_real_keys(real: Yard) -> None:
    """Signed, promoted and verified with ssh-keygen; then by the command, offline, with a root key."""
    done = real.promote(real.agree())
    assert verify_set(done.folder, anybody(real)).builders == ["build1", "build2"]
    root = real.folder / "keys/root.pub"
    said = ask(real, "verify", done.folder, "--root-key", root, "--json")
    assert (said.returncode, said.stderr) == (0, "")
    assert json.loads(said.stdout)["entry"]["number"] == 1
    text = ask(real, "verify", done.folder, "--root-key", root).stdout
    assert f"As of ledger commit {done.entry.as_of}" in text
    stranger = ask(real, "verify", done.folder, "--root-key", real.folder / "keys/stranger.pub")
    assert (stranger.returncode, "not the root's" in stranger.stderr) == (PolicyInvalid.exit_code, True)
    spoil_file(done.folder)
    spoiled = ask(real, "verify", done.folder, "--root-key", root)
    assert (spoiled.returncode, "agent.jar" in spoiled.stderr) == (PromotionInvalid.exit_code, True)


def ask(yard: Yard, *words: object) -> subprocess.CompletedProcess[str]:
    """Runs a command on a machine that has no ledger."""
    env = {**os.environ, "PIPELINE_HOME": str(yard.folder / "user/.pipeline"), "PIPELINE_LEDGER": "/nowhere"}
    argv = [sys.executable, "-m", "invoke", *map(str, words)]
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
