"""The demonstration as it is read: the story as it happens, then the table and the verdict."""

from __future__ import annotations

from pipeline.console.plain import plain
from pipeline.console.terminal import put, say, show_json, show_table
from pipeline.errors import CheckFailed
from pipeline.operations.demo.play import Performance
from pipeline.operations.demo.story import Event, short

#: What `invoke cluster` says without `--demo`.
FORMS = {
    "invoke cluster --demo": "two builders at work on this machine, one broken and healed, in about a minute",
    "nox -s cluster": "in a checkout: the simulated cluster, under every fault",
}


def show_forms(as_json: bool) -> None:
    """Says what there is to see of a cluster."""
    if as_json:
        show_json(FORMS)
        return
    for command, meaning in FORMS.items():
        put(f"{command:24} {meaning}")


def tell_event(event: Event) -> None:
    """Shows one line of the story: when, who, what. What the ledger records has its commit beside it."""
    if not event.who:
        say(f"{event.seconds:6.1f} s  {event.text}")
        return
    mark = f"[{event.commit[:7]}] " if event.commit else ""
    say(f"{event.seconds:6.1f} s    {event.who:7} {mark}{event.text}")


def show_performance(played: Performance, as_json: bool) -> int:
    """Shows what was played and what it showed; returns the exit code."""
    if as_json:
        show_json({**plain(played), "holds": played.holds})
        return 0 if played.holds else CheckFailed.exit_code
    rows = [
        [job.name, each.builder, each.number, short(each.token), each.ending, "late" if each.late else ""]
        for job in played.jobs
        for each in job.attempts
    ]
    show_table(["job", "builder", "attempt", "token", "outcome", "result"], rows, empty="No job was run.")
    put()
    for promise in played.promises:
        put(f"{'ok  ' if promise.held else 'FAIL'}  {promise.promise}: {promise.shown}")
    if played.folder:
        put(f"\nKept: {played.folder}")
    words = "every promise held" if played.holds else "NOT EVERY PROMISE HELD"
    put(f"\n{words}; {played.transactions} transactions in {played.seconds:.0f} s, tip {played.tip[:12]}")
    return 0 if played.holds else CheckFailed.exit_code
