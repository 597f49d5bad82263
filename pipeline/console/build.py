"""The end of a build as a person or a program reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.console.plain import plain
from pipeline.console.terminal import duration, printable, put, say, show_json, show_table, size
from pipeline.errors import FAILURE_EXIT_CODES
from pipeline.operations.conditions import said
from pipeline.operations.report import Report

_MODULES_SHOWN = 12


def show_build(reports: Sequence[Report], as_json: bool) -> int:
    """Shows how builds ended and returns the exit code: 0 only if none failed.

    As JSON it is always one object: the build's, or `{"jobs": [...]}` where it is not exactly one.
    """
    if as_json:
        shown = [_as_json(report) for report in reports]
        show_json(shown[0] if len(shown) == 1 else {"jobs": shown})
    else:
        for report in reports:
            _show(report)
        if not reports:
            put("Nothing to do: no queued job fits this builder.")
    return max((_exit_code(report) for report in reports), default=0)


def _exit_code(report: Report) -> int:
    if report.status in ("succeeded", "queued", "planned"):
        return 0
    if report.status == "unreported":
        return 80
    kind = report.failure.failure_class if report.failure else report.status
    return FAILURE_EXIT_CODES.get(str(kind), 70)


def _as_json(report: Report) -> dict[str, Any]:
    value: dict[str, Any] = plain(report)
    value["artifacts"] = [
        {"name": a.name, "size_bytes": a.size_bytes, "sha256": a.sha256} for a in report.artifacts
    ]
    if report.recipe is None:
        value.pop("recipe")
    return value


def _show(report: Report) -> None:
    if report.status == "planned":
        show_json(plain(report.recipe))
        given = said(report.depends_on, report.retries)
        what = f"{report.branch} at {report.commit[:12]} on {report.builder}"
        say(f"Dry run: {what}{f', {given}' if given else ''}. Nothing was recorded.")
        return
    if report.status == "queued":
        given = said(report.depends_on, report.retries)
        given = "; ".join(each for each in (given, report.round and f"in round {report.round}") if each)
        words = f" ({given})" if given else ""
        put(f"{report.job_id} waits for {report.builder}{words}; `invoke work --once` there runs it.")
        return
    _show_parts(report)
    if report.failure:
        failure = report.failure
        put(f"FAILED ({failure.failure_class})" + (f" in {failure.module}" if failure.module else ""))
        place = f"  (line {failure.line} of the log)" if failure.line else ""
        put(f"  {printable(failure.message, lines=True)}{place}")
        if failure.remedy:
            put(f"  Remedy: {failure.remedy}")
    if report.log:
        put(f"Log: {report.log}")
    if report.manifest:
        put(f"{'Packages' if report.artifacts else 'Kept'}: {Path(report.manifest).parent}")
    if report.status == "unreported":
        say("Built, not yet reported: the next `invoke build` or `invoke recover` that gets through does it.")
    costs = report.ledger
    put(
        f"{report.status.upper()}: {report.branch} at {report.commit[:12]} on {report.builder}, "
        f"{report.job_id} attempt {report.attempt}, {duration(report.duration_seconds)}, "
        f"{costs.get('commits', 0)} commits and {costs.get('pushes', 0)} pushes to the ledger"
    )


def _show_parts(report: Report) -> None:
    if report.modules:
        slowest = sorted(report.modules, key=lambda m: m.duration_seconds or 0, reverse=True)[:_MODULES_SHOWN]
        rows = [[m.name, duration(m.duration_seconds), m.status] for m in slowest]
        title = (
            "module" if len(slowest) == len(report.modules) else f"slowest of {len(report.modules)} modules"
        )
        show_table([title, "took", "status"], rows, empty="")
        put()
    show_table(
        ["stage", "took", "status"],
        [[s.name, duration(s.duration_seconds), s.status] for s in report.stages],
        empty="No stage was begun.",
    )
    put()
    if report.artifacts:
        listed = [[a.sha256, size(a.size_bytes), a.name] for a in report.artifacts]
        show_table(["SHA-256", "size", "artifact"], listed, empty="")
        put()
