"""What a comparison is put together from. No other command loads it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.builds.variation import vary
from pipeline.compare.bundle import READER
from pipeline.compare.showing import NOT_SHOWING, Showing, Shows, Wanted
from pipeline.compare.wire import Line
from pipeline.edge.clock import SystemClock
from pipeline.edge.confined import ConfinedPrograms
from pipeline.edge.conversation import Conversation, LocalConversation
from pipeline.errors import IdentityUnknown
from pipeline.operations.agreement import Reach, compare_builds, reach_far, reach_here
from pipeline.operations.attest import own_job
from pipeline.operations.choosing import Asked
from pipeline.operations.compare import compare_files
from pipeline.operations.everywhere import build_everywhere, watch
from pipeline.operations.places import Known, Place, place_of
from pipeline.operations.second_builder import make_up
from pipeline.operations.sides import open_line
from pipeline.operations.site import Site
from pipeline.records.builders import Builder
from pipeline.records.comparison import Comparison
from pipeline.runtime import (
    EMBEDDED_BUILDERS,
    entrust,
    identify,
    make_refs,
    make_site,
    read_settings,
    registered_builders,
)


def compare_here(
    left: str, right: str, say: Callable[[str], None], shown: Wanted | None = None
) -> Comparison:
    """Compares two sides as they were typed: paths, builders, paths of other machines."""
    known = known_builders()
    sides = place_of(left, "--left", known), place_of(right, "--right", known)
    return compare_files(*sides, read_there, SystemClock(), say, showing=_showing(shown))


def _showing(shown: Wanted | None) -> Shows:
    """Returns what shows the leaves that are wanted, with this machine's programs."""
    return NOT_SHOWING if shown is None else Showing(ConfinedPrograms(), SystemClock(), shown)


def read_there(place: Place) -> Conversation:
    """Starts a reader of a side's files for a comparison, with nothing in its way that could be imported."""
    if place.host is None:
        return LocalConversation([sys.executable, *READER], place.name)
    from pipeline.edge.ssh import SshConversation

    return SshConversation(place.host, f"cd / && exec {shlex.join(['python3', *READER])}", place.name)


def open_here() -> Line:
    """Opens a reader of what lies on this machine. Raises ComparisonIncomplete."""
    return open_line(Place(Path("/"), typed="this machine"), read_there)


def known_builders() -> Known:
    """Returns who can be meant by a builder's name: by this machine's settings, and the registry."""
    settings = read_settings()

    def registered() -> list[Builder]:
        if settings.embedded and not (Path(settings.ledger) / "HEAD").exists():
            return [Builder(name=name, manager="embedded") for name in EMBEDDED_BUILDERS]
        return registered_builders(settings, make_refs(settings))

    def own() -> str | None:
        try:
            name: str = identify(settings, registered).value
        except IdentityUnknown:
            return None
        return name

    return Known(own, settings.artifacts, settings.builders, registered)


def compare_builds_here(
    asked: Asked,
    say: Callable[[str], None],
    live: Callable[[Mapping[str, Any]], None] | None = None,
    *,
    build: bool = False,
    rebuild: bool = False,
    shown: Wanted | None = None,
) -> Comparison:
    """Compares what builders made of one commit, as far as it can be read from this machine.

    With `build` every builder builds it first. In the embedded default what one has made is built by the
    other first, if it was not yet. With `rebuild` what differs is built again, to tell what it depends on.
    """
    site = make_site(say, live)

    def become(name: str) -> Site:
        return _become(site, name, live)

    embedded = site.settings.embedded
    if build and embedded:
        asked = build_everywhere(site, asked, here=EMBEDDED_BUILDERS, become=become)
    elif build:
        asked = build_everywhere(site, asked)
    if embedded and len(asked.jobs) < 2:
        make_up(site, asked, EMBEDDED_BUILDERS, become)
    ways = ways_to_builds(site)
    found = compare_builds(site, asked, ways, _showing(shown))
    if not rebuild:
        return found
    # Only this comparison needs what builds need.
    from pipeline.operations.rebuild import rebuild as again

    return again(site, found, ways, _open_here)


def _open_here(name: str) -> Line:
    return open_line(Place(Path("/"), typed=name), read_there)


def compare_job(site: Site, job_id: str | None) -> Comparison:
    """Compares a job's build, or this builder's newest that is kept, with the others' of its commit."""
    job, _ = own_job(site, site.state().view, job_id)
    return compare_builds(site, Asked((job.id,)), ways_to_builds(site))


def watch_builds(asked: Asked, say: Callable[[str], None]) -> Iterator[Comparison]:
    """Compares whenever there is something new to compare, until a signal. Builds nothing."""
    site = make_site(say)
    return watch(site, asked, ways_to_builds(site))


def _become(site: Site, name: str, live: Callable[[Mapping[str, Any]], None] | None) -> Site:
    """Returns the site of the other builder of the embedded default, in an environment of its own."""
    other = make_site(site.say, live, builder=name)
    if name == EMBEDDED_BUILDERS[0]:
        return other
    work = site.settings.work.with_name(f"{site.settings.work.name}-{name}")
    return entrust(replace(other, settings=replace(other.settings, work=work), variation=vary(name, work)))


def ways_to_builds(site: Site) -> list[Reach]:
    """Returns the ways to what builders made: this machine's own folder first, then over SSH."""
    return [
        reach_here(site, _open_here),
        reach_far(known_builders(), lambda place: open_line(place, read_there)),
    ]
