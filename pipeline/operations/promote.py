"""Promotes a set that the builders agree about, or goes back to an earlier one: one entry, then one move.

copy in private -> decide -> check -> hash again -> decide again, sign, ONE commit -> move the pointer
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pipeline.coordination.counting import Case, Excluded, Rules
from pipeline.coordination.pairs import agreeing
from pipeline.coordination.promotion import Change, Ruling, changes, decide, not_allowed, restore
from pipeline.coordination.trust import basis_of
from pipeline.edge.plain_file import read_plain
from pipeline.edge.signatures import Signer
from pipeline.errors import (
    LedgerError,
    NotFound,
    PromotionRefused,
    RecordInvalid,
    Refused,
    SignatureInvalid,
)
from pipeline.ledger.history import Standing
from pipeline.operations import artifacts
from pipeline.operations.attest import (
    look,
    own_job,
    promotable,
    reported_manifest,
    stated,
    stated_of,
    statements,
)
from pipeline.operations.policy import payloads, rules_of, signed_in
from pipeline.operations.promoted import (
    ATTESTATIONS,
    ENTRY,
    FILES,
    all_prepared,
    branch_folder,
    copy_in,
    hash_again,
    move_into_place,
    normalise_in,
    prepare,
    prepared_folder,
    private_folder,
    set_folder,
    write_statements,
)
from pipeline.operations.queue import find
from pipeline.operations.reemission import Normalising, Open, Reported, check
from pipeline.operations.site import Site
from pipeline.operations.trust import POLICY, REVOCATIONS, Signed, Trust, locked, read_entry, read_signed
from pipeline.records import paths
from pipeline.records.base import dump, load
from pipeline.records.builds import Manifest
from pipeline.records.comparison import Comparison
from pipeline.records.decisions import Refusal, View
from pipeline.records.jobs import Job
from pipeline.records.names import check_name
from pipeline.records.promotion import PromotedFile, Promotion, PromotionHead
from pipeline.records.rewriting import normalisers_of
from pipeline.records.statements import Kind, made

#: Installs the packages of a folder where nothing is touched. Raises InstallFailed.
Install = Callable[[Path], None]

#: So often a decision is made again because something came in meanwhile.
_ATTEMPTS = 8
_ENTER = "promotion.enter"


@dataclass(frozen=True)
class Order:
    """What is to be promoted: the build of a job, by default the newest that is kept here.

    `folder` is where the packages lie, by default where this builder keeps them. `open` opens a reader on
    this machine, for packages that agree only when normalised.
    """

    comparisons: Sequence[Comparison]
    job_id: str | None = None
    folder: Path | None = None
    open: Open | None = None


@dataclass(frozen=True)
class Promoted:
    """What was promoted: the entry, where it lies, how it differs from the one before, who did not count."""

    entry: Promotion
    folder: Path
    changes: list[Change]
    excluded: list[Excluded]


@dataclass(frozen=True)
class _Plan:
    """One promotion or rollback, before anything is decided."""

    action: Literal["promote", "rollback"]
    branch: str
    commit: str
    source: Path
    names: Sequence[str]
    rule: Callable[[Case], Ruling | Refusal]
    comparisons: Sequence[Comparison] = ()
    normalisers: Sequence[str] = ()
    restores: int | None = None
    bring_in: Callable[[Path], list[PromotedFile]] | None = None


@dataclass(frozen=True)
class _Decided:
    """What one look at the ledger gave: what is in force there, and the ruling on it."""

    standing: Standing
    rules: Rules
    ruling: Ruling
    last: Promotion | None


def promote(site: Site, trust: Trust, promoter: Signer, order: Order, install: Install) -> Promoted:
    """Promotes a build that enough builders agree about: its bytes, or what they come to when normalised.

    Raises PromotionRefused whose `reason` names the rule, ReemissionRefused for what cannot be normalised
    here, SignatureInvalid for a key that may not promote, InstallFailed, PolicyInvalid, Outdated, and
    LedgerError where the ledger does not answer.
    """
    view = site.state().view
    order = replace(order, comparisons=agreeing(order.comparisons))
    job = find(view, check_name("job", order.job_id))[0] if order.job_id else own_job(site, view, None)[0]
    rules = rules_of(view, trust)
    normalisers = normalisers_of(order.comparisons)
    if refused := not_allowed(rules.policy, normalisers):
        raise PromotionRefused(refused.message, reason=refused.reason, remedy=refused.remedy)
    own = stated_of(statements(view, trust, rules, job.commit), job, normalisers)
    folder = order.folder or _folder_of(site, job)
    plan = _Plan(
        "promote",
        job.branch,
        job.commit,
        folder,
        sorted(own.artifacts),
        decide,
        order.comparisons,
        normalisers,
    )
    if normalisers:
        plan = replace(plan, bring_in=_normalised(view, order, job, rules, plan))
    return _carry_out(site, trust, promoter, plan, install)


def _normalised(
    view: View, order: Order, job: Job, rules: Rules, plan: _Plan
) -> Callable[[Path], list[PromotedFile]]:
    """Returns what brings in a build's files as they are when normalised; raises ReemissionRefused."""
    _, data = reported_manifest(view, job, job.assigned_to or "")
    if data is None or order.open is None:
        raise PromotionRefused(f"Job {job.id} has no manifest in the ledger.", reason="no-manifest")
    build = Reported(job.commit, data, promotable(load(Manifest, data, "manifest.json")))
    how = Normalising(order.comparisons, order.open)
    check(how, build, rules.policy)
    return lambda private: normalise_in(how, build, plan.source, private)


def _folder_of(site: Site, job: Job) -> Path:
    folder = artifacts.folder_of(site, job.id)
    if folder is None:
        raise NotFound(
            f"The packages of job {job.id} are not kept here.",
            reason="not-found",
            remedy=f"Run it on {job.assigned_to}, or fetch them and name the folder: `--folder`.",
        )
    return folder


def rollback(
    site: Site, trust: Trust, promoter: Signer, branch: str, number: int, install: Install
) -> Promoted:
    """Makes what an earlier entry promoted the branch's current set again, under the next number.

    Raises as `promote`, and NotFound for an entry that is not there.
    """
    check_name("branch", branch)
    view = site.state().view
    path = paths.promotion(branch, number)
    found = signed_in(view, paths.promotions(branch)).get(path)
    if found is None:
        raise NotFound(f"{branch} has no promotion number {number}.", reason="not-found")
    old = read_entry(trust, rules_of(view, trust), found, path)
    plan = _Plan(
        "rollback",
        branch,
        old.commit,
        set_folder(site.settings.promoted, branch, number) / FILES,
        sorted(old.digests),
        lambda case: restore(case, old),
        (),
        old.normalisers,
        number,
    )
    return _carry_out(site, trust, promoter, plan, install)


def finish(site: Site, branch: str) -> Path | None:
    """Moves a set into place whose entry has reached the ledger since its promoter was interrupted, also
    where another promoter has entered the next one by now.

    What was prepared for an entry that never will is removed.
    """
    view, promoted = site.state().view, site.settings.promoted
    waits = any(each.request.get("kind") == _ENTER for each in site.ledger.store.entries())
    moved = None
    for prepared in all_prepared(promoted, branch):
        try:
            data = read_plain(prepared / ENTRY)
        except FileNotFoundError:  # half removed
            data = b""
        entry = load(Promotion, data, str(prepared / ENTRY)) if data else None
        if entry is not None and view.read(paths.promotion(branch, entry.number)) == data:
            moved = move_into_place(prepared, promoted, entry)
        elif not waits:
            shutil.rmtree(prepared)  # its entry will never be in the ledger
    return moved


# ---------------------------------------------------------------- the one way


def _carry_out(site: Site, trust: Trust, promoter: Signer, plan: _Plan, install: Install) -> Promoted:
    promoted = site.settings.promoted
    with (
        locked(branch_folder(promoted, plan.branch) / ".lock"),
        private_folder(promoted, plan.branch) as private,
    ):
        if (moved := finish(site, plan.branch)) is not None:
            site.say(f"Moved into place, as the ledger had it already: {moved}.")
        files = plan.bring_in(private) if plan.bring_in else copy_in(plan.source, plan.names, private)
        site.step("copied")
        checks: list[Literal["install"]] = []
        for _ in range(_ATTEMPTS):
            decided = _decide(site, trust, plan, files)
            if missing := [each for each in decided.rules.policy.checks if each not in checks]:
                site.say(f"Installing {len(files)} files in a scratch root …")
                install(private / FILES)
                checks += missing
                hash_again(private, files)
                continue
            entry = _entry(plan, decided, promoter, files, checks)
            if (place := _enter(site, trust, promoter, decided, entry, private)) is not None:
                number = f"promotions/{plan.branch}"
                trust.note(number, entry.number, Signed(dump(entry), None).sha256)
                differs = changes(decided.last, entry.digests)
                return Promoted(entry, place, differs, decided.ruling.tally.excluded)
    raise PromotionRefused(
        f"The ledger changed {_ATTEMPTS} times while it was decided.",
        reason="moved",
        remedy="Try again when less is going on.",
    )


def _decide(site: Site, trust: Trust, plan: _Plan, files: Sequence[PromotedFile]) -> _Decided:
    """Reads policy, revocations, statements and history as they are now, and decides on them."""
    standing = site.state()
    view = standing.view
    rules = rules_of(view, trust)
    history = _history(site, trust, rules, view, plan.branch)
    case = Case(
        rules,
        rules.policy.ledger,
        plan.branch,
        plan.commit,
        {each.name: each.sha256 for each in files},
        statements(view, trust, rules, plan.commit),
        plan.comparisons,
        stated(view, plan.branch, plan.commit),
        history,
        plan.normalisers,
    )
    ruling = plan.rule(case)
    if isinstance(ruling, Refusal):
        raise PromotionRefused(ruling.message, reason=ruling.reason, remedy=ruling.remedy)
    return _Decided(standing, rules, ruling, history[-1] if history else None)


def _history(site: Site, trust: Trust, rules: Rules, view: View, branch: str) -> list[Promotion]:
    """Returns a branch's entries that a promoter signed, oldest first. Others are named."""
    found = []
    for path, signed in sorted(signed_in(view, paths.promotions(branch)).items()):
        try:
            found.append(read_entry(trust, rules, signed, path))
        except (SignatureInvalid, RecordInvalid) as exc:
            site.say(f"`{path}` counts for nothing: {exc.message}")
    return found


def _head(view: View, branch: str) -> PromotionHead | None:
    path = paths.promotion_head(branch)
    data = view.read(path)
    return load(PromotionHead, data, path) if data is not None else None


def _entry(
    plan: _Plan,
    decided: _Decided,
    promoter: Signer,
    files: Sequence[PromotedFile],
    checks: Sequence[str],
) -> Promotion:
    policy, ruling = decided.rules.policy, decided.ruling
    head = _head(decided.standing.view, plan.branch)
    return made(
        Promotion,
        {
            "kind": "promotion",
            "format": 1,
            "action": plan.action,
            "ledger": policy.ledger,
            "branch": plan.branch,
            "number": head.number + 1 if head else 1,
            "predecessor": head.sha256 if head else None,
            "restores": plan.restores,
            "commit": plan.commit,
            "counted": [each.model_dump() for each in ruling.tally.counted],
            "artifacts": [each.model_dump() for each in files],
            "verdict": ruling.verdict,
            "normalisers": ruling.normalisers,
            "policy": decided.rules.sha256,
            "policy_number": policy.number,
            "revocations": decided.rules.revocations.number if decided.rules.revocations else 0,
            "dismissed": ruling.dismissed,
            "witnessed": ruling.tally.witnessed,
            "keys": ruling.tally.keys,
            "checks": sorted(checks),
            "as_of": decided.standing.tip,
            "promoter": _promoter(decided.rules, promoter),
        },
    )


def _promoter(rules: Rules, promoter: Signer) -> str:
    key = promoter.public_key
    name = next((n for n, keys in rules.policy.promoter_keys.items() if key.text in keys), None)
    if name is None:
        raise SignatureInvalid(
            f"The key {key.fingerprint} is no promoter's by the policy (number {rules.policy.number}).",
            reason="unknown-key",
            remedy="Promote with a key that the policy names among its promoters.",
        )
    if key.fingerprint in rules.revoked:
        raise SignatureInvalid(f"{name}'s key {key.fingerprint} is revoked.", reason="revoked-key")
    return name


def _enter(
    site: Site, trust: Trust, promoter: Signer, decided: _Decided, entry: Promotion, private: Path
) -> Path | None:
    """Signs and writes the entry, and moves the set into place; None where something came in meanwhile."""
    data = dump(entry)
    signed = Signed(data, promoter.sign(data, Kind.PROMOTION))
    read_entry(trust, decided.rules, signed, ENTRY)
    write_statements(private, _beside(trust, decided, entry) | {ENTRY: signed})
    promoted = site.settings.promoted
    prepared = prepared_folder(promoted, entry.branch, signed.sha256)
    prepare(private, prepared)
    site.step("prepared")
    basis = basis_of(decided.standing.view, entry.branch, entry.commit)
    request = {"kind": _ENTER, "branch": entry.branch, "basis": basis}
    try:
        site.ask(request, payloads=payloads(signed))
    except Refused as exc:
        prepared.rename(private)
        if exc.reason in ("moved", "replayed"):
            return None
        raise PromotionRefused(exc.message, reason=exc.reason, remedy=exc.remedy) from exc
    except LedgerError:
        site.say(
            "The entry waits in the outbox. Once it is in the ledger (`invoke recover`), `invoke promote`"
            f" moves what lies ready in {prepared}."
        )
        raise
    site.step("entered")
    return move_into_place(prepared, promoted, entry)


def _beside(trust: Trust, decided: _Decided, entry: Promotion) -> dict[str, Signed]:
    """Returns what a set is verified by, as it is stored: policy, revocations, and who was counted."""
    found = {POLICY: read_signed(trust.folder / POLICY)}
    if decided.rules.revocations is not None:
        found[REVOCATIONS] = read_signed(trust.folder / REVOCATIONS)
    counted = {each.attestation for each in entry.counted}
    for path, signed in signed_in(decided.standing.view, paths.attestations(entry.commit)).items():
        seen = look(trust, decided.rules, signed, path) if signed.sha256 in counted else None
        if seen is not None and seen.signer == seen.statement.builder:
            found[f"{ATTESTATIONS}/{seen.signer}.json"] = signed
    return {name: signed for name, signed in found.items() if signed is not None}
