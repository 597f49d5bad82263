"""Policies, promotions and what was verified, for people; or the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.console.plain import plain
from pipeline.console.terminal import printable, put, say, show_json, show_table
from pipeline.operations.attest import Attested
from pipeline.operations.policy import Shown as ShownPolicy
from pipeline.operations.promote import Promoted
from pipeline.operations.promoted import Verified
from pipeline.operations.secret import Shown
from pipeline.records.policy import Revocations
from pipeline.records.promotion import Promotion
from pipeline.records.rewriting import names_of


def show_draft(place: Path, as_json: bool) -> None:
    if as_json:
        show_json({"draft": str(place)})
        return
    put(str(place))
    say("Look at the draft, then sign it: `invoke policy.sign --key ROOTKEY`.")


def show_policy(shown: ShownPolicy, as_json: bool) -> None:
    policy = shown.policy
    if as_json:
        show_json({**plain(shown)})
        return
    put(f"Policy number {policy.number}, {shown.sha256[:12]}: {policy.k} of {len(policy.builders)} builders.")
    rows: list[list[object]] = []
    for each in policy.builders:
        reads = ", ".join(each.reads_keys_of) or "-"
        rows += [["builder", each.name, each.machine, key.split(" ")[1][-16:], reads] for key in each.keys]
    for one in policy.promoters:
        rows += [["promoter", one.name, "-", key.split(" ")[1][-16:], "-"] for key in one.keys]
    show_table(["who", "name", "machine", "key ends with", "reads keys of"], rows, empty="")
    put(f"normalisers    {', '.join(policy.normalisers) or 'none'}")
    put(f"checks         {', '.join(policy.checks) or 'none'}")
    put(f"shared keys    {'permitted' if policy.allow_shared_keys else 'refused'}")
    put(f"shared machine {'permitted' if policy.allow_shared_machine else 'refused'}")
    for name, rule in policy.branches.items():
        if rule.commit_and_reveal:
            put(f"commit and reveal on {printable(name)}")
    for dismissed in policy.dismissed:
        put(f"dismissed      {dismissed.sha256[:12]}: {printable(dismissed.reason)}")
    if shown.revocations is not None:
        show_revocations(shown.revocations, False)


def show_revocations(said: Revocations, as_json: bool) -> None:
    if as_json:
        show_json(plain(said))
        return
    for each in said.revoked:
        put(f"revoked        {each.key}: {printable(each.reason)}")
    put(f"Revocations number {said.number} of ledger {said.ledger[:12]}.")


def show_attested(done: Attested, as_json: bool) -> None:
    if as_json:
        show_json(plain(done))
        return
    for name, digest in sorted(done.artifacts.items()):
        put(f"{digest}  {printable(name)}")
    normalised = ", ".join(names_of(done.normalisers))
    if normalised:
        put(f"These are its files when normalised: {printable(normalised)}.")
    word = "was signed before" if done.there else "is signed"
    put(f"Job {done.job_id} {word}: statement {done.sha256[:12]}.")


def show_round(jobs: Mapping[str, str], as_json: bool) -> None:
    if as_json:
        show_json(plain(dict(jobs)))
        return
    for builder, job in sorted(jobs.items()):
        put(f"{builder}: {job}")
    say("Each commits first. Once all have, each reveals by itself, with the next command that runs there.")


def show_revealed(shown: Sequence[Shown], as_json: bool) -> None:
    if as_json:
        show_json(plain(list(shown)))
        return
    for each in shown:
        put(f"{each.job_id} is revealed.")
        for name in each.unwitnessed:
            say(f"Unwitnessed, as its digest was in the ledger before: {printable(name)}")
    if not shown:
        put("Nothing is sealed here.")


def show_promoted(done: Promoted, as_json: bool) -> None:
    if as_json:
        show_json(plain(done))
        return
    for each in done.changes:
        put(f"{(each.before or '-')[:12]:12} -> {(each.after or '-')[:12]:12}  {printable(each.name)}")
    if not done.changes:
        put("The same files as before.")
    for left in done.excluded:
        say(f"Not counted ({left.reason}): {printable(left.message)}")
    _show_entry(done.entry)
    put(str(done.folder))


def show_verified(found: Verified, as_json: bool) -> None:
    if as_json:
        show_json(plain(found))
        return
    for each in found.entry.artifacts:
        put(f"{each.sha256}  {printable(each.name)}")
    for left in found.excluded:
        say(f"Not counted ({left.reason}): {printable(left.message)}")
    _show_entry(found.entry)
    by = ", ".join(found.builders)
    how = "built alike, but for what was normalised," if found.entry.normalisers else "built alike"
    put(f"Verified: {how} by {by}; policy {found.policy_number}, keys {found.keys}.")
    put(f"As of ledger commit {found.entry.as_of}. Whether something newer was promoted, files cannot tell.")


def _show_entry(entry: Promotion) -> None:
    what = "promoted" if entry.action == "promote" else f"number {entry.restores} restored"
    checks = f"; checks: {', '.join(entry.checks)}" if entry.checks else ""
    put(
        f"{printable(entry.branch)} number {entry.number}: {entry.commit[:12]} {what} by {entry.promoter},"
        f" {entry.verdict}{checks}."
    )
    if names := names_of(entry.normalisers):
        put(f"Normalised, so that all builders have the same bytes: {printable(', '.join(names))}.")
    for digest in entry.dismissed:
        put(f"Dissent that the policy dismisses: {digest[:12]}.")
