"""Commit and reveal on this machine: a report is sealed, a commitment goes out, and the report later.

The sealed report lies below `<work>/sealed/<job>.<attempt>/`, whole before the commitment is sent, so that no
crash leaves a commitment that cannot be opened. It stays there until what it says is revealed and signed: a
crash in between leads to both being done again, and the ledger has each once
(`tests/operations/test_reveals.py`). A job that is in no round is not touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.coordination.rounds import read_round, still_committing
from pipeline.edge.disk import flush_folder
from pipeline.edge.plain_file import read_plain
from pipeline.edge.signatures import Signer
from pipeline.errors import FileFailed, NotFound, PipelineError, PolicyInvalid, RecordInvalid
from pipeline.operations import site as sites
from pipeline.operations.attest import inputs_digest
from pipeline.operations.policy import payloads
from pipeline.operations.queue import find
from pipeline.operations.site import Site
from pipeline.operations.trust import Signed, Trust, write_durably
from pipeline.records.base import dump, load
from pipeline.records.builds import Manifest
from pipeline.records.decisions import View
from pipeline.records.jobs import Job
from pipeline.records.names import check_name
from pipeline.records.rounds import Commitment, Opening
from pipeline.records.statements import Kind, made, read_statement, sha256_of

_OPENING = "opening"
_NAMES = ("manifest", "log", "summary", "structured")


@dataclass(frozen=True)
class Shown:
    """What was revealed: the job, and the artifacts whose digests had been in the ledger before."""

    job_id: str
    unwitnessed: list[str]


def commits_first(trust: Trust, branch: str) -> bool:
    """Says whether the policy that this machine trusts has a branch's builders commit before they reveal.

    Without a policy no branch has. Raises PolicyInvalid and Outdated for one that cannot be believed, and for
    one that was there before: taking that for none would have builders tell what they ought to keep.
    """
    try:
        policy, _ = trust.policy()
    except PolicyInvalid as exc:
        if exc.reason != "no-policy":
            raise
        trust.note_absent("policy")
        return False
    rule = policy.branches.get(branch)
    return rule is not None and rule.commit_and_reveal


def open_round(site: Site, round_id: str, job_ids: Sequence[str]) -> dict[str, str]:
    """Has queued jobs, one for each builder, commit before any reveals. Returns them by builder.

    Raises Refused where one has begun, or is for nobody in particular.
    """
    view = site.state().view
    jobs = [find(view, check_name("job", each))[0] for each in job_ids]
    by_builder = {job.target or job.id: job.id for job in jobs}
    first = jobs[0]
    request = {"kind": "round.open", "id": round_id, "branch": first.branch, "commit": first.commit}
    site.ask({**request, "jobs": by_builder})
    return by_builder


def seal(
    site: Site, trust: Trust, signer: Signer, job: Job, token: str, attempt: int, report: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Keeps a report back, and returns what is reported instead: a commitment with its signature.

    Sealing the same attempt again, after a crash, gives the same commitment. Raises FileFailed,
    PolicyInvalid, SignatureInvalid.
    """
    policy, _ = trust.policy()
    place = _place(site, job.id, attempt)
    data = _sealed_under(place, token)
    if data is None:
        shutil.rmtree(place, ignore_errors=True)
        for name in _NAMES:
            if name in report:
                write_durably(place / name, report[name])
        manifest = load(Manifest, report["manifest"], "the manifest")
        opening = {
            "domain": "cloudstack-build-pipeline commitment 1",
            "ledger": policy.ledger,
            "job": job.id,
            "token": token,
            "builder": site.builder,
            "key": signer.public_key.fingerprint,
            "commit": job.commit,
            "inputs": inputs_digest(manifest),
            "salt": site.random.hex() + site.random.hex(),
            "manifest": sha256_of(report["manifest"]),
        }
        data = dump(made(Opening, opening))
        write_durably(place / _OPENING, data)
    _flush(place.parent, site.settings.work)
    value = {"kind": "commitment", "format": 1, "ledger": policy.ledger, "job": job.id, "token": token}
    said = dump(made(Commitment, value | {"builder": site.builder, "sha256": sha256_of(data)}))
    return dict(payloads(Signed(said, signer.sign(said, Kind.COMMITMENT))))


def reveal(site: Site, job_id: str) -> Shown:
    """Publishes what this builder had committed to, and signs it where this machine has a key.

    Raises NotFound, Refused while others may commit.
    """
    view = site.state().view
    job, archive = find(view, check_name("job", job_id))
    place = _place(site, job.id, job.attempt)
    opening = _kept(place, _OPENING)
    if opening is None:
        raise NotFound(f"Nothing is sealed here of job {job.id}.", reason="not-found")
    found = {name: data for name in _NAMES if (data := _kept(place, name)) is not None}
    request = {"kind": "build.reveal", "job_id": job.id, "archive": archive}
    done = site.ask(request, payloads={_OPENING: opening, **found})
    site.step("revealed")
    if site.sign is not None:
        site.sign(job.id)
    site.step("signed")
    for each in place.parent.glob(f"{job.id}.*"):
        if each.name.rpartition(".")[0] == job.id:  # not of a job whose name begins with this one's
            shutil.rmtree(each, ignore_errors=True)
    its = read_round(view, job.id) if done.get("there") else None
    again = its.revealed.get(site.builder) if its else None
    return Shown(job.id, list(again.unwitnessed if again else done.get("unwitnessed") or []))


def reveal_ready(site: Site) -> list[Shown]:
    """Reveals and signs what is sealed here of rounds in which nobody can commit any more. Waits for nobody.

    What cannot be revealed is said, and left for the next time. Raises LedgerError where the remote cannot be
    read.
    """
    ids = sealed(site)
    view = site.state().view if ids else None
    shown = []
    for id in ids:
        if view is None or not is_ready(view, site.builder, id):
            continue
        try:
            shown.append(reveal(site, id))
        except NotFound:
            continue  # another process of this builder was quicker
        except PipelineError as exc:
            site.say(f"What was built as {id} is not revealed: {exc.message} `invoke recover` tries again.")
    return shown


def is_ready(view: View, builder: str, job_id: str) -> bool:
    """Says whether a builder has committed with a job to what it may reveal now."""
    its = read_round(view, job_id)
    return (
        its is not None
        and its.participants.get(builder) == job_id
        and builder in its.committed
        and not still_committing(its, sites.jobs(view).jobs)
    )


def sealed(site: Site) -> list[str]:
    """Returns the jobs of which this machine has something to reveal."""
    return sorted({each.name.rpartition(".")[0] for each in (site.settings.work / "sealed").glob("*.*")})


def _place(site: Site, job_id: str, attempt: int) -> Path:
    return site.settings.work / "sealed" / f"{job_id}.{attempt}"


def _sealed_under(place: Path, token: str) -> bytes | None:
    """Returns the opening of what an attempt has sealed. After a rewind of the ledger an attempt of the same
    number may hold another token: what was sealed under the old one could never be revealed.
    """
    data = _kept(place, _OPENING)
    try:
        said = read_statement(Opening, data, _OPENING) if data is not None else None
    except RecordInvalid:
        return None
    return data if said is not None and said.token == token else None


def _flush(*folders: Path) -> None:
    """Makes the name of what was sealed outlive a power loss, as its files do."""
    for folder in folders:
        try:
            flush_folder(folder)
        except OSError as exc:
            raise FileFailed(f"`{folder}` cannot be written: {exc.strerror}.") from exc


def _kept(place: Path, name: str) -> bytes | None:
    try:
        return read_plain(place / name)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise FileFailed(f"`{place / name}` cannot be read: {exc.strerror}.") from exc
