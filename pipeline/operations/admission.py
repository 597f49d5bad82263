"""What may be written: nothing that looks like a password or a key gets into the outbox, and so into history.

What a person or an agent asks for is refused as a whole. What the pipeline says by itself, of a build or of a
machine, is masked: a report must not be lost because of what a build has printed. The texts that go with a
report (manifest, logs, summary) are masked where they are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import SecretRefused
from pipeline.records.secrets import leak_in, mask_values

#: Requests that the pipeline makes by itself, of what is already in the ledger.
_BY_ITSELF = frozenset(
    {
        "job.claim",
        "job.complete",
        "job.requeue",
        "ledger.raise_epoch",
        "lock.evict",
        "lock.leave",
        "lock.ready",
        "lock.release",
        "lock.takeover",
        "status.set",
        "withdraw",
    }
)
#: Fields with words in them. The others of those requests are ids and numbers, which must stay as they are.
_WORDS = frozenset({"artifacts", "facts", "failure", "purpose", "reason"})
#: What the pipeline adds to anybody's request.
_ADDED = frozenset({"facts"})
#: Holds a fencing token, whatever the name means elsewhere.
_FENCE = "token"


def admit(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a request as it may be written. Raises SecretRefused with the field, the line and the rule."""
    by_itself = request.get("kind") in _BY_ITSELF
    masked = _WORDS if by_itself else _ADDED
    for name, value in request.items():
        if by_itself or name in masked:
            continue
        leak = leak_in(value, name) if name == _FENCE else leak_in({name: value})
        if leak is not None:
            raise SecretRefused(leak.field, leak.line, leak.rule, leak.excerpt)
    return {name: mask_values(value) if name in masked else value for name, value in request.items()}
