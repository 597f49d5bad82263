"""Presence: what builders say of themselves, the registry, and the health that a reader derives.

What lives here: decisions on status, configuration and registry, and the one threshold of staleness.
What must not: reading a clock, or believing `healthy` of a builder that has fallen silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from pipeline.coordination.draft import Answer, Draft, replaced
from pipeline.records import paths, requests
from pipeline.records.builders import Heartbeat, Status
from pipeline.records.builds import BuildConfig
from pipeline.records.decisions import Refusal

STALE_SECONDS = 300.0


@dataclass(frozen=True)
class Health:
    """What a reader makes of a builder's heartbeat; `age_seconds` is None where there is none."""

    state: Literal["healthy", "unhealthy", "stale", "unknown"]
    age_seconds: float | None
    reason: str


def derive_health(
    heartbeat: Heartbeat | None, *, unchanged_seconds: float, seen_to_change: bool, claimed_age_seconds: float
) -> Health:
    """Derives a builder's health from what the reader saw of its heartbeat.

    Only CHANGE that the reader saw is liveness. Before it has seen one it falls back on
    `claimed_age_seconds`, its own wall clock less the heartbeat's timestamp: good enough to show, never to
    take a lock by.
    """
    if heartbeat is None:
        return Health("unknown", None, "it never sent a heartbeat")
    age = unchanged_seconds if seen_to_change else max(unchanged_seconds, claimed_age_seconds)
    if age >= STALE_SECONDS:
        return Health("stale", age, f"no change for {age:.0f} s")
    if not heartbeat.healthy:
        return Health("unhealthy", age, "its own checks failed")
    return Health("healthy", age, f"changed {age:.0f} s ago")


def unproven(
    draft: Draft, what: str, silence_seconds: float, *, dead_process: bool = False
) -> Refusal | None:
    """Refuses to put somebody aside who may still work.

    Taken as proof: having seen it silent for long enough and, where its own builder asks (`dead_process`),
    that its process is dead.
    """
    seen = draft.evidence.observations
    silent = seen.get("silence_seconds", 0)
    if dead_process and seen.get("process_dead"):
        return None
    if isinstance(silent, int | float) and silent >= silence_seconds:
        return None
    return Refusal(
        "unproven",
        f"Nothing shows that {what} is gone: seen silent for {silent} s, and it takes {silence_seconds:g} s.",
        "Go on watching it, or run `invoke recover` on its own builder.",
    )


def unknown_builder(draft: Draft, name: str) -> Refusal | None:
    """Refuses a name that the registry does not know, and offers near ones."""
    known = [builder.name for builder in draft.registry.builders]
    if name in known:
        return None
    near = ", ".join(get_close_matches(name, known, n=3, cutoff=0.5) or known)
    remedy = f"Use one of: {near}." if near else "Register it in `shared/builders.json`."
    return Refusal("unknown-builder", f"No builder `{name}` is registered.", remedy)


def set_status(draft: Draft, builder: str, facts: requests.Facts | None = None, **changes: Any) -> bool:
    """Writes a builder's status and heartbeat; says whether a fact of its status changed.

    The timestamp is of the last change, so a status that says nothing new is not written.
    """
    if facts is not None:
        names = ("ip", "manager", "system", "toolchain", "environment")
        given = {name: getattr(facts, name) for name in names}
        changes |= {name: value for name, value in given.items() if value is not None}
        if facts.environment is not None:
            changes["fingerprint"] = facts.environment.fingerprint
        if facts.heartbeat is not None:
            draft.put(paths.heartbeat(builder), facts.heartbeat)
    before = draft.status(builder)
    after = replaced(before, **changes)
    if after == before and draft.exists(paths.status(builder)):
        return False
    draft.put(paths.status(builder), replaced(after, timestamp=draft.now))
    return True


def set_facts(draft: Draft, request: requests.StatusSet) -> Answer:
    """Records what a builder says of itself."""
    refused = unknown_builder(draft, request.builder)
    return refused or {"changed": set_status(draft, request.builder, request.facts)}


def set_config(draft: Draft, request: requests.ConfigSet) -> Answer:
    """Replaces the configuration of builds."""
    before = draft.get(BuildConfig, paths.BUILD_CONFIG)
    if before is not None and replaced(request.config, last_updated=before.last_updated) == before:
        return {"changed": False}
    draft.put(paths.BUILD_CONFIG, replaced(request.config, last_updated=draft.now))
    return {"changed": True}


def set_registry(draft: Draft, request: requests.RegistrySet) -> Answer:
    """Adds, changes or removes a builder; one that holds a lock stays."""
    entry, registry = request.entry, draft.registry
    held = [lock.name for lock in draft.locks.locks if lock.owner == entry.name]
    if request.remove and held:
        remedy = f"Wait, or run `invoke recover` on {entry.name}."
        return Refusal("busy", f"Builder {entry.name} holds lock `{held[0]}`.", remedy)
    others = [builder for builder in registry.builders if builder.name != entry.name]
    after = others if request.remove else sorted([*others, entry], key=lambda builder: builder.name)
    if not request.remove and draft.get(Status, paths.status(entry.name)) is None:
        set_status(draft, entry.name, ip=entry.address, manager=entry.manager)
    if after != registry.builders:
        draft.registry = replaced(registry, builders=after)
    return {"changed": after != registry.builders, "builders": [builder.name for builder in after]}
