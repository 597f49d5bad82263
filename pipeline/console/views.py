"""Records as tables for people, or as the same records in JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.builds.artifact_sets import ArtifactSet, Problem, PrunePlan
from pipeline.console.terminal import duration, say, show_json, show_table, size
from pipeline.ledger.check import Story
from pipeline.operations.history import Checked
from pipeline.operations.overview import Overview
from pipeline.operations.recover import Recovery
from pipeline.records.jobs import Job
from pipeline.records.locks import Lock
from pipeline.records.messages import Message


def plain(value: Any) -> Any:
    """Returns records, dataclasses and times as JSON values."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value) if isinstance(value, Path) else value


def when(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else "-"


def show_status(seen: Overview, as_json: bool) -> None:
    if as_json:
        show_json(plain(seen))
        return
    rows = []
    for each in seen.builders:
        said = each.status
        last = said.last_build if said else None
        rows.append(
            [
                f"{each.name}{' (here)' if each.name == seen.here else ''}",
                each.problem or (said.status if said else "-"),
                f"{each.health.state}: {each.health.reason}",
                said.current_job.id if said and said.current_job else "-",
                f"{last.status}, {duration(last.duration_seconds)}, {when(last.completed_at)}"
                if last
                else "-",
            ]
        )
    show_table(
        ["builder", "status", "heartbeat", "job", "last build"], rows, empty="No builder is registered."
    )
    print()
    show_jobs([*seen.running, *seen.queued], False, empty="Nothing runs and nothing waits.")
    for notice in seen.notices:
        say(f"Notice: {notice}")


def show_jobs(jobs: Sequence[Job], as_json: bool, empty: str = "No jobs.") -> None:
    if as_json:
        show_json(plain(list(jobs)))
        return
    rows = [
        [
            j.id,
            j.branch,
            j.commit[:10],
            f"{j.status} ({j.outcome})"
            if j.outcome and j.status == "failed" and j.outcome != "failed"
            else j.status,
            j.priority,
            j.assigned_to or j.target or "any",
            when(j.created_at),
            duration(j.duration_seconds),
            j.failure.message[:60] if j.failure else "",
        ]
        for j in jobs
    ]
    columns = ["job", "branch", "commit", "status", "prio", "builder", "created (UTC)", "took", "failure"]
    show_table(columns, rows, empty=empty)


def show_job(job: Job, as_json: bool) -> None:
    if as_json:
        show_json(plain(job))
        return
    for name, value in plain(job).items():
        if value not in (None, "", [], {}):
            print(f"{name:18} {value}")


def show_locks(locks: Sequence[Lock], as_json: bool) -> None:
    if as_json:
        show_json(plain(list(locks)))
        return
    rows = [[x.name, x.owner, x.token or "-", when(x.timestamp), x.job_id or x.purpose] for x in locks]
    show_table(["lock", "held by", "token", "since (UTC)", "for"], rows, empty="No lock is held.")


def show_messages(messages: Sequence[Message], as_json: bool) -> None:
    if as_json:
        show_json(plain(list(messages)))
        return
    rows = [[m.id, when(m.timestamp), m.sender, m.to, m.type, m.subject] for m in messages]
    show_table(["message", "sent (UTC)", "from", "to", "type", "subject"], rows, empty="No messages.")


def show_recovery(found: Recovery, as_json: bool) -> None:
    if as_json:
        show_json(plain(found))
        return
    for line in found.lines():
        print(line)


def show_checks(checks: Sequence[Any], as_json: bool) -> int:
    """Shows what doctor found; returns the exit code."""
    failed = [c for c in checks if not c.ok]
    if as_json:
        show_json(plain(list(checks)))
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.message}")
            if not check.ok and check.remedy:
                print(f"      Remedy: {check.remedy}")
    return 60 if failed else 0


def show_settings(rows: Sequence[Any], as_json: bool) -> None:
    if as_json:
        show_json(plain(list(rows)))
        return
    show_table(
        ["setting", "value", "from"], [[r.name, r.value, r.origin] for r in rows], empty="No settings."
    )


def show_sets(sets: Sequence[ArtifactSet], as_json: bool) -> None:
    if as_json:
        show_json(plain(list(sets)))
        return
    rows: list[list[object]] = []
    for each in sets:
        made = each.manifest
        if made is None:
            rows.append([each.name, "-", "-", "-", "-", size(each.size_bytes), each.problem])
            continue
        facts = [made.branch, made.commit[:10], when(made.created_at), made.artifact_count]
        rows.append([made.job_id, *facts, size(each.size_bytes), each.folder])
    show_table(
        ["job", "branch", "commit", "made (UTC)", "files", "size", "folder"],
        rows,
        empty="No builds are kept here.",
    )


def show_problems(found: Mapping[str, Sequence[Problem]], as_json: bool) -> int:
    """Shows what a verification found; returns the exit code."""
    bad = sum(len(problems) for problems in found.values())
    if as_json:
        show_json(plain(found))
    else:
        for name, problems in found.items():
            print(f"{name}: {'ok' if not problems else f'{len(problems)} problems'}")
            for problem in problems:
                print(f"  {problem}")
        if not found:
            print("No builds are kept here.")
    return 85 if bad else 0


def show_pruned(plan: PrunePlan, really: bool, as_json: bool) -> None:
    folders = [*(each.folder for each in plan.remove), *plan.leftovers]
    if as_json:
        kept = {each.name: why for each, why in plan.keep}
        show_json({"removed" if really else "would_remove": [str(f) for f in folders], "kept": kept})
        return
    for each, why in plan.keep:
        print(f"keep {each.name}: {why}")
    for folder in folders:
        print(f"{'removed' if really else 'would remove'} {folder}")
    if not folders:
        print("Nothing to remove.")
    elif not really:
        say("Nothing was removed; --yes removes them.")


def show_checked(checked: Checked, as_json: bool) -> int:
    """Shows a check of the ledger; returns the exit code."""
    if as_json:
        show_json({**plain(checked), "holds": checked.holds})
    else:
        for finding in checked.findings:
            print(f"{'note' if finding.foreign else 'FAIL'}  {finding.commit[:12]}: {finding.problem}")
        print(
            f"{checked.transactions} transactions computed again, tip {checked.tip[:12]}: "
            f"{'the ledger holds' if checked.holds else 'THE LEDGER DOES NOT HOLD'}"
        )
    return 0 if checked.holds else 86


def show_history(stories: Sequence[Story], as_json: bool) -> None:
    if as_json:
        show_json([{"commit": s.oid, "subject": s.subject, "record": plain(s.record)} for s in stories])
        return
    for story in stories:
        record = story.record
        number = str(record.ordinal) if record else "by hand"
        print(f"{story.oid[:12]}  {number:>7}  {story.subject}")
