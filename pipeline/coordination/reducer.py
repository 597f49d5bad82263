"""The reducer: the one function that turns a request into the next state, and the state it all begins with.

Pure: the same view, request, evidence and context give the same bytes, on every machine and for ever. When
a rule changes so that an old record would give another tree, REDUCER_VERSION goes up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from pipeline.coordination import (
    comparisons,
    leases,
    mailbox,
    presence,
    queue,
    recovery,
    results,
    reveals,
    rounds,
    trust,
)
from pipeline.coordination.draft import Answer, Draft
from pipeline.records import paths
from pipeline.records.base import dump
from pipeline.records.builders import Builder, Dashboard, Heartbeat, Registry, Status
from pipeline.records.decisions import Change, Context, Refusal, View
from pipeline.records.jobs import Jobs
from pipeline.records.ledger import Evidence, LedgerState
from pipeline.records.locks import Locks
from pipeline.records.messages import Mailbox, Messages
from pipeline.records.requests import parse_request

REDUCER_VERSION = 3

_DECISIONS: dict[str, Callable[[Draft, Any], Answer]] = {
    "job.create": queue.create,
    "job.start": queue.start,
    "job.claim": queue.claim,
    "job.complete": results.complete,
    "job.cancel": queue.cancel,
    "job.requeue": queue.requeue,
    "job.retry": queue.retry,
    "lock.acquire": leases.acquire,
    "lock.release": leases.release,
    "lock.break": recovery.break_lock,
    "lock.takeover": leases.take_over,
    "lock.ready": leases.ready,
    "lock.leave": recovery.leave_queue,
    "lock.evict": leases.evict,
    "message.send": mailbox.send,
    "message.read": mailbox.mark,
    "message.ack": mailbox.mark,
    "status.set": presence.set_facts,
    "comparison.record": comparisons.record,
    "config.set": presence.set_config,
    "registry.set": presence.set_registry,
    "round.open": rounds.open_round,
    "round.order": rounds.order,
    "build.reveal": reveals.reveal,
    "attestation.publish": trust.publish_attestation,
    "revocation.publish": trust.publish_revocations,
    "promotion.enter": trust.enter_promotion,
    "withdraw": recovery.withdraw,
    "ledger.raise_epoch": recovery.raise_epoch,
}


def decide(view: View, request: Mapping[str, Any], evidence: Evidence, context: Context) -> Change | Refusal:
    """Decides one request. Raises RecordInvalid where the request or a file that it needs cannot be read."""
    asked = parse_request(request)
    draft = Draft(view, evidence, context)
    answer = _DECISIONS[asked.kind](draft, asked)
    if isinstance(answer, Refusal):
        return answer
    return Change(outcome=answer, writes=draft.writes())


def genesis(builders: Iterable[Builder], build_config: bytes, now: datetime) -> dict[str, bytes]:
    """Returns the files of a ledger in which nothing has happened yet."""
    registered = sorted(builders, key=lambda builder: builder.name)
    files = {
        paths.LEDGER: dump(LedgerState()),
        paths.JOBS: dump(Jobs()),
        paths.LOCKS: dump(Locks()),
        paths.MESSAGES: dump(Messages()),
        paths.MAILBOX: dump(Mailbox()),
        paths.REGISTRY: dump(Registry(builders=registered)),
        paths.DASHBOARD: dump(Dashboard()),
        paths.BUILD_CONFIG: build_config,
    }
    for each in registered:
        status = Status(server=each.name, ip=each.address, manager=each.manager, timestamp=now)
        files[paths.status(each.name)] = dump(status)
        files[paths.heartbeat(each.name)] = dump(Heartbeat(server=each.name, timestamp=now))
    return files
