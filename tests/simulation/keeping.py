"""What machines keep: reports until the ledger has them, and artifacts as long as something refers to them.

report-is-kept: a build that ended with its report on disk has exactly that report in the ledger in the end,
and its own machine never gives its job up. referenced-artifacts-stay: a set is not removed while its job is
open, its builder's last build is of its job, or its machine has still to report it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.operations import site as sites
from tests.simulation import actors
from tests.simulation.dice import Dice
from tests.simulation.disk import File, Folder, VirtualPath
from tests.simulation.invariants import violated

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.witness import Asked
    from tests.simulation.world import World


@dataclass(frozen=True)
class Kept:
    """A report that was said to be on a machine's disk."""

    node: str
    request: Mapping[str, Any]


class Keeping:
    """Reports and artifacts of one run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._dice = Dice(world.seed, "prune")
        self._kept: dict[str, Kept] = {}
        self._reported: set[str] = set()

    def maybe_prune(self) -> None:
        """Now and then somebody prunes on one of the machines, soon or a little later."""
        if self._dice.chance(self._world.profile.prunes):
            delay, keep = self._dice.pick((0.1, 20.0, 300.0)), self._dice.pick((0, 0, 0, 1, 2))
            self._world.scheduler.at(self._dice.around(delay), lambda: self._prune(keep))

    def _prune(self, keep: int) -> None:
        up = [node for node in self._world.nodes if not node.off]
        if up and not self._world.calm:
            node = self._dice.pick(up)
            node.start("prune", lambda program: actors.prune(node, program, keep))

    # ------------------------------------------------------------ reports

    def kept(self, node: Node, request: Mapping[str, Any]) -> None:
        """A program was told that its report is on disk."""
        self._kept[request["token"]] = Kept(node.name, dict(request))

    def reports(self, node: Node) -> list[str]:
        """Returns which reports are on a machine's disk."""
        place = VirtualPath(node, "work", "attempts")
        found = place.iterdir() if place.is_dir() else []
        return [one.name for one in found if (one / "completion").is_dir()]

    def landed(self, asked: Asked | None, request: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
        """report-is-kept, of a report or a loss that lands."""
        kept = self._kept.get(str(request.get("token")))
        if kept is None or not outcome["ok"]:
            return
        if request["kind"] == "job.complete" and "duration_seconds" not in request:
            return  # somebody cheats: no build reports so little
        own = kept.node not in self._world.witness.odd_disks
        kind = request["kind"]
        if kind == "job.complete":
            self._reported.add(request["token"])
            differs = [name for name, value in kept.request.items() if request.get(name) != value]
            if differs and own:
                violated("report-is-kept", f"{request} is not what {kept.node} kept: {kept.request}")
        elif kind == "job.requeue" and own and asked is not None and asked.node == kept.node:
            if any(node.name == kept.node and _waits(node, request["token"]) for node in self._world.nodes):
                return  # result-goes-first tells of it
            violated("report-is-kept", f"{kept.node} gives {request['job_id']} up and has its report")

    def at_the_end(self) -> None:
        """report-is-kept, of every report: in the end the ledger has it."""
        if self._world.rewound:
            return
        for token, kept in self._kept.items():
            if token not in self._reported and kept.node not in self._world.witness.odd_disks:
                violated("report-is-kept", f"nobody has the report that {kept.node} kept: {kept.request}")

    # ------------------------------------------------------------ artifacts

    def removes(self, folder: VirtualPath) -> None:
        """referenced-artifacts-stay, at the moment when a set goes."""
        node, name = folder.node, folder.name
        job_id, _, token = name.partition(".")
        why = self._wanted_here(node, job_id, token) or self._wanted_by_ledger(job_id)
        if why:
            violated("referenced-artifacts-stay", f"{name} is removed on {node.name}, although {why}")

    def _wanted_here(self, node: Node, job_id: str, token: str) -> str | None:
        if _waits(node, token):
            return "its report waits in the outbox"
        if any(name.rpartition(".")[0] == job_id for name in self.attempts(node)):
            return "its attempt has still to report"
        return None

    def attempts(self, node: Node) -> list[str]:
        """Returns the attempts that a machine's journal tells of."""
        place = VirtualPath(node, "work", "attempts").found()
        names = place.names if isinstance(place, Folder) else {}
        return [name for name, each in names.items() if not isinstance(each, File) and name[0] != "."]

    def _wanted_by_ledger(self, job_id: str) -> str | None:
        """Looks at the tip; a rewind that the machine has not noticed ends the promise."""
        last = self._world.checker.links[-1]
        if self._world.rewound:
            return None
        view = self._world.checker.standing(last)
        if any(job.id == job_id and not job.ended for job in sites.jobs(view).jobs):
            return "its job is open"
        for node in self._world.nodes:
            said = sites.status(view, node.builder)
            if said is not None and said.last_build is not None and said.last_build.id == job_id:
                return f"it is the last build of {node.builder}"
        return None


def _waits(node: Node, token: str) -> bool:
    """Says whether a report under a token waits in a machine's outbox."""
    asked = "select count(*) from entries where outcome is null and request like ?"
    waits = f'%"kind": "job.complete"%"token": "{token}"%'
    return bool(node.disk.execute(asked, (waits,)).fetchone()[0])
