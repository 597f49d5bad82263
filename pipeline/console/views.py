"""Records as tables for people, or as the same records in JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pipeline.console.plain import plain
from pipeline.console.terminal import duration, printable, put, put_log, say, show_json, show_table, size
from pipeline.errors import ArtifactsInvalid, CheckFailed, PreflightFailed, exit_code_of
from pipeline.operations.artifacts import ArtifactSet, Problem, PrunePlan
from pipeline.operations.configuration import Explained
from pipeline.operations.doctor import Check, remedies
from pipeline.operations.epoch import Raised
from pipeline.operations.history import Checked, Told
from pipeline.operations.locks import LockTable
from pipeline.operations.overview import Overview
from pipeline.operations.recover import Recovery
from pipeline.records.comparison import KeptComparison
from pipeline.records.jobs import Job
from pipeline.records.messages import Message


def when(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else "-"


def _ended(job: Job) -> str:
    """Returns a job's status as a person reads it: which kind of end, where there are several."""
    return job.outcome or job.status


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
    put()
    show_jobs([*seen.running, *seen.queued], False, empty="Nothing runs and nothing waits.")
    for waits in seen.rounds:
        put(waits.words())
    for one in seen.comparisons:
        put(f"compared {compared(one)}")
    for notice in seen.notices:
        say(f"Notice: {notice}")


def compared(each: KeptComparison) -> str:
    """Returns one comparison in words."""
    who = " and ".join(build.builder for build in each.builds)
    return f"{when(each.at)}: {each.verdict}, {each.branch} at {each.commit[:10]}, {who}"


def show_comparisons(found: Sequence[KeptComparison], as_json: bool) -> None:
    """Shows the comparisons that the ledger keeps."""
    if as_json:
        show_json(plain(list(found)))
        return
    rows = [
        [
            when(each.at),
            each.verdict,
            each.branch,
            each.commit[:10],
            ", ".join(f"{build.builder} {build.job_id}" for build in each.builds),
            ", ".join([*(f"{count} {verdict}" for verdict, count in each.artifacts.items()), *each.inputs]),
        ]
        for each in found
    ]
    columns = ["compared (UTC)", "verdict", "branch", "commit", "builds", "artifacts, other inputs"]
    show_table(columns, rows, empty="Nothing was compared yet.")


def show_jobs(jobs: Sequence[Job], as_json: bool, empty: str = "No jobs.") -> None:
    if as_json:
        show_json(plain(list(jobs)))
        return
    rows = [
        [
            j.id,
            j.branch,
            j.commit[:10],
            _ended(j),
            j.priority,
            j.assigned_to or j.target or "any",
            when(j.created_at),
            duration(j.duration_seconds),
            f"{j.failure.failure_class}: {j.failure.message.splitlines()[0] if j.failure.message else ''}"
            if j.failure
            else "",
        ]
        for j in jobs
    ]
    columns = ["job", "branch", "commit", "status", "prio", "builder", "created (UTC)", "took", "failure"]
    show_table(columns, rows, empty=empty)


def show_job(job: Job, as_json: bool) -> None:
    if as_json:
        show_json(plain(job))
        return
    _show_fields(plain(job))


def show_log(job_id: str, text: str, as_json: bool) -> None:
    """Shows a job's readable log: as it is, or in one object."""
    if as_json:
        show_json({"job_id": job_id, "log": text})
        return
    put_log(text)


def show_message(message: Message, as_json: bool) -> None:
    if as_json:
        show_json(plain(message))
        return
    fields = plain(message)
    body = fields.pop("body")
    _show_fields(fields)
    put()
    put(printable(body, lines=True))


def _show_fields(fields: Mapping[str, Any], indent: str = "") -> None:
    """Prints what a record says, a line for each field; what it does not say is left out."""
    for name, value in fields.items():
        if value in (None, "", [], {}):
            continue
        if isinstance(value, dict) and not indent:
            put(name)
            _show_fields(value, "  ")
            continue
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if isinstance(value, list | dict):
            value = json.dumps(value, ensure_ascii=False)
        put(f"{indent}{name:{18 - len(indent)}} {printable(str(value))}")


def show_locks(table: LockTable, as_json: bool) -> None:
    if as_json:
        show_json(plain(table))
        return
    rows = [[x.name, x.owner, x.token or "-", when(x.timestamp), x.job_id or x.purpose] for x in table.locks]
    show_table(["lock", "held by", "token", "since (UTC)", "for"], rows, empty="No lock is held.")
    if table.waiters:
        print()
        rows = [[str(n), w.owner, ", ".join(w.names), w.purpose] for n, w in enumerate(table.waiters, 1)]
        show_table(["turn", "builder", "waits for", "for"], rows, empty="")


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
        put(line)


def show_checks(checks: Sequence[Check], as_json: bool) -> int:
    """Shows what doctor found; returns the exit code."""
    failed = [c for c in checks if not c.ok]
    if as_json:
        show_json(plain(list(checks)))
    else:
        for check in checks:
            put(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {printable(check.message)}")
            if not check.ok and check.remedy:
                put(f"      Remedy: {check.remedy}")
        words = f"{len(failed)} of {len(checks)} checks failed." if failed else "This machine can build."
        put(f"\n{words}" + (f" {install}." if (install := remedies(checks)) else ""))
    return PreflightFailed.exit_code if failed else 0


def show_settings(found: Explained, as_json: bool) -> int:
    """Shows settings, and what kept the rest from being read; returns the exit code."""
    problem = found.problem
    if as_json:
        error = {"message": problem.message, "remedy": problem.remedy} if problem else None
        show_json({"settings": plain(found.rows), "error": error})
    else:
        rows = [[r.name, r.value or "-", r.origin] for r in found.rows]
        show_table(["setting", "value", "from"], rows, empty="No settings.")
    if problem is None:
        return 0
    sys.stdout.flush()
    say(f"The ledger's settings are missing here: {problem}")
    return exit_code_of(problem)


def show_raised(raised: Raised, as_json: bool) -> None:
    if as_json:
        show_json(plain(raised))
        return
    how = "was raised before; this machine follows" if raised.joined else "begins"
    put(f"Epoch {raised.epoch} {how}. {raised.abandoned[:12]} is given up for {raised.tip[:12]}.")
    for job in raised.jobs:
        put(f"{job} ran: what its builder reports will not count. `invoke job.cancel {job}` ends it.")
    for lock in raised.locks:
        put(f"Lock {lock}: its holder's token is void.")


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
            put(f"{printable(name)}: {_count(problems)}")
            for problem in problems:
                put(f"  {printable(problem.path)} ({problem.kind}): {printable(problem.message)}")
        if not found:
            put("No builds are kept here.")
    return ArtifactsInvalid.exit_code if bad else 0


def _count(problems: Sequence[Problem]) -> str:
    return "ok" if not problems else "1 problem" if len(problems) == 1 else f"{len(problems)} problems"


def show_pruned(plan: PrunePlan, really: bool, as_json: bool) -> None:
    folders = [*(each.folder for each in plan.remove), *plan.leftovers]
    if as_json:
        kept = {each.name: why for each, why in plan.keep}
        show_json({"removed" if really else "would_remove": [str(f) for f in folders], "kept": kept})
        return
    for each, why in plan.keep:
        put(f"keep {each.name}: {why}")
    for folder in folders:
        put(f"{'removed' if really else 'would remove'} {folder}")
    if not folders:
        put("Nothing to remove.")
    elif not really:
        say("Nothing was removed; --yes removes them.")


def show_checked(checked: Checked, as_json: bool) -> int:
    """Shows a check of the ledger; returns the exit code."""
    if as_json:
        show_json({**plain(checked), "holds": checked.holds})
    else:
        for finding in checked.findings:
            word = "note" if finding.foreign else "FAIL"
            put(f"{word}  {finding.commit[:12]}: {printable(finding.problem)}")
        for each in checked.aside:
            put(f"note  not adopted: {printable(each)}")
        put(
            f"{checked.transactions} transactions computed again, tip {checked.tip[:12]}: "
            f"{'the ledger holds' if checked.holds else 'THE LEDGER DOES NOT HOLD'}"
        )
    return 0 if checked.holds else CheckFailed.exit_code


def show_history(stories: Sequence[Told], as_json: bool) -> None:
    if as_json:
        show_json(plain(list(stories)))
        return
    for story in stories:
        number = "by hand" if story.ordinal is None else str(story.ordinal)
        put(f"{story.commit[:12]}  {number:>7}  {printable(story.subject)}")
