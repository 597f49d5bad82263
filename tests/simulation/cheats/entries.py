"""Promotions that are entered or offered in bad faith."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.coordination.trust import basis_of
from pipeline.operations.promote import promote as promote_set
from pipeline.operations.promoted import verify_set
from pipeline.records import paths
from pipeline.records.attestation import Attestation
from pipeline.records.base import dump, load
from pipeline.records.decisions import View
from pipeline.records.promotion import Promotion, PromotionHead
from pipeline.records.statements import Kind, made
from tests.simulation import disk
from tests.simulation.cheats.base import TAKEN, Attempt, cheat, refused, sent
from tests.simulation.comparing import order_of, sets_of
from tests.simulation.disk import VirtualPath
from tests.simulation.promoting import (
    OPEN,
    SECRET,
    TURNCOAT,
    Campaign,
    installed,
    some_campaign,
)

# ---------------------------------------------------------------- promoters


def _head(view: View, branch: str) -> tuple[int, str | None]:
    data = view.read(paths.promotion_head(branch))
    head = load(PromotionHead, data, "the head") if data else None
    return (head.number, head.sha256) if head else (0, None)


def _entry(
    attempt: Attempt, of: Campaign, builds: Sequence[tuple[Attestation, str]], **changes: Any
) -> bytes:
    """Returns the next entry of a branch as a promoter of bad faith writes it."""
    number, before = _head(attempt.view, of.branch)
    policy = json.loads(VirtualPath(attempt.node, "policy", "policy.json").read_bytes())
    value = {
        "kind": "promotion",
        "format": 1,
        "action": "promote",
        "ledger": attempt.mine.ledger,
        "branch": of.branch,
        "number": number + 1,
        "predecessor": before,
        "restores": None,
        "commit": of.commit,
        "counted": [
            {"builder": said.builder, "job": said.facts.job, "attestation": digest} for said, digest in builds
        ],
        "artifacts": [
            {"name": name, "size_bytes": 1, "sha256": digest}
            for name, digest in sorted(builds[0][0].artifacts.items())
        ],
        "verdict": "AGREE",
        "normalisers": [],
        "policy": builds[0][0].facts.policy,
        "policy_number": policy["number"],
        "revocations": 0,
        "dismissed": [],
        "witnessed": False,
        "keys": "separate",
        "checks": [],
        "as_of": attempt.mine.ledger,
        "promoter": TURNCOAT,
    }
    return dump(made(Promotion, value | changes))


def _entered(attempt: Attempt, of: Campaign, data: bytes, signature: bytes | None = None) -> str:
    signed = signature or attempt.mine.notary.signer(TURNCOAT).sign(data, Kind.PROMOTION)
    basis = basis_of(attempt.view, of.branch, of.commit)
    request = {"kind": "promotion.enter", "branch": of.branch, "basis": basis}
    return refused(lambda: sent(attempt.site, request, statement=data, signature=signed))


def _stated(attempt: Attempt, of: Campaign) -> dict[str, list[tuple[Attestation, str]]]:
    """Returns what builders have stated of a campaign, one statement of each, by the bytes."""
    from pipeline.coordination.trust import attestations

    by_bytes: dict[str, dict[str, tuple[Attestation, str]]] = {}
    for said, digest in attestations(attempt.view, of.commit).values():
        key = f"{said.facts.inputs} {sorted(said.artifacts.items())}"
        if said.order.branch == of.branch:
            by_bytes.setdefault(key, {})[said.builder] = said, digest
    return {key: list(found.values()) for key, found in by_bytes.items()}


#: What an entry may be refused for before it is looked at: others were quicker.
_QUICKER = ("moved", "replayed", "gap")


@cheat("a promoter is silent about dissent", "dissent", late=_QUICKER)
def dissent_withheld(attempt: Attempt) -> str | None:
    for of in reversed(attempt.mine.campaigns[-8:]):
        found = sorted(_stated(attempt, of).items())
        for key, builds in found:
            inputs = key.split(" ")[0]
            if any(other != key and other.startswith(inputs) for other, _ in found):
                return _entered(attempt, of, _entry(attempt, of, builds))
    return None


@cheat("a promoter calls witnessed what was not", "unwitnessed", late=(*_QUICKER, "dissent"))
def witnessed_falsely(attempt: Attempt) -> str | None:
    for of in reversed(attempt.mine.campaigns[-8:]):
        groups = [builds for _, builds in sorted(_stated(attempt, of).items())]
        if of.branch == OPEN and groups:
            return _entered(attempt, of, _entry(attempt, of, groups[0], witnessed=True))
    return None


@cheat("a promoter counts a builder that has stated nothing", "unfounded", late=_QUICKER)
def counted_from_nothing(attempt: Attempt) -> str | None:
    of = attempt.mine.campaigns[-1] if attempt.mine.campaigns else None
    groups = [builds for _, builds in sorted(_stated(attempt, of).items())] if of else []
    if of is None or not groups:
        return None
    said, _ = groups[0][0]
    counted = [{"builder": "build9", "job": said.facts.job, "attestation": "f" * 64}]
    return _entered(attempt, of, _entry(attempt, of, groups[0], counted=counted))


@cheat("an older promotion is entered again, as it was", "replayed", late=["there"])
def replayed_promotion(attempt: Attempt) -> str | None:
    for branch in (OPEN, SECRET):
        number, _ = _head(attempt.view, branch)
        if number < 2:
            continue
        path = paths.promotion(branch, 1 + attempt.dice.below(number - 1))
        data = attempt.view.read(path) or b""
        of = Campaign(branch, json.loads(data)["commit"])
        return _entered(attempt, of, data, attempt.view.read(paths.signature(path)))
    return None


@cheat("a promotion that leaves a number out", "gap", late=["replayed"])
def number_left_out(attempt: Attempt) -> str | None:
    of = attempt.mine.campaigns[-1] if attempt.mine.campaigns else None
    groups = [builds for _, builds in sorted(_stated(attempt, of).items())] if of else []
    if of is None or not groups:
        return None
    number, _ = _head(attempt.view, of.branch)
    return _entered(attempt, of, _entry(attempt, of, groups[0], number=number + 2, predecessor="f" * 64))


@cheat("a user who has verified a promotion is offered an older one", "older", late=["policy", "revoked-key"])
def older_set_offered(attempt: Attempt) -> str | None:
    for branch in (OPEN, SECRET):
        sets = sets_of(attempt.node.world, branch)
        older = [one for one in sets if one.name < sets[-1].name]
        if older and _verified(attempt, sets[-1]) == TAKEN:
            return _verified(attempt, attempt.dice.pick(older))
    return None


def _verified(attempt: Attempt, folder: Any) -> str:
    trust = attempt.mine.trust(attempt.node, "user")
    return refused(lambda: verify_set(folder, trust))


#: What else may keep a set from being promoted.
_UNREADY = (
    *("too-few", "other-policy", "unwitnessed", "dissent", "comparison", "unsigned", "unknown-key"),
    *("revoked-key", "promoted", "older", "other-machine", "policy", "forked", "bad-signature", "not-found"),
    *("other-builder", "other-key", "other-inputs", "counted", "same-machine"),
)


@cheat("bytes are swapped between comparison and promotion", "other-bytes", late=_UNREADY)
def bytes_swapped(attempt: Attempt) -> str | None:
    if not attempt.mine.campaigns:
        return None
    of = some_campaign(attempt.mine, attempt.view, attempt.dice, 2)
    order = order_of(attempt.node, attempt.view, of, attempt.dice)
    if order is None or not order.comparisons or order.folder is None:
        return None
    swapped: Any = VirtualPath(attempt.node, "work", f"swapped-{attempt.program.name}")
    swapped.mkdir(parents=True)
    source: Any = order.folder
    for one in source.iterdir():
        data = one.read_bytes()
        disk.write_synced(swapped / one.name, b"evil" if one.name == "a.deb" else data)
    evil = replace(order, folder=swapped)
    trust, promoter = attempt.mine.trust(attempt.node), attempt.mine.notary.signer("operator")
    return refused(lambda: promote_set(attempt.site, trust, promoter, evil, installed))
