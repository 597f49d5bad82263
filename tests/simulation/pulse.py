"""The product's pulse on a virtual disk, and its renewing thread as a strand of the simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from pipeline.operations import lease
from pipeline.operations import pulse as pulses
from pipeline.operations.heart import Heart
from pipeline.operations.pulse import Pulse
from pipeline.operations.site import Site
from tests.simulation.scheduler import Program
from tests.simulation.server import VirtualRefs

if TYPE_CHECKING:
    from tests.simulation.node import Node


class VirtualFile:
    """As much of a path as a pulse uses."""

    def __init__(self, node: Node, name: str) -> None:
        self._node, self._files, self.name = node, node.pulse_files, name

    def read_bytes(self) -> bytes:
        return self._found()[0]

    def stat(self) -> SimpleNamespace:
        return SimpleNamespace(st_mtime=self._found()[1])

    def write_bytes(self, data: bytes) -> int:
        self._files[self.name] = data, self._node.wall()
        return len(data)

    def with_name(self, name: str) -> VirtualFile:
        return VirtualFile(self._node, name)

    def replace(self, target: VirtualFile) -> None:
        self._files[target.name] = self._files.pop(self.name)

    def unlink(self, missing_ok: bool = False) -> None:
        self._files.pop(self.name, None)

    def _found(self) -> tuple[bytes, float]:
        if self.name not in self._files:
            raise FileNotFoundError(self.name)
        return self._files[self.name]

    def __lt__(self, other: VirtualFile) -> bool:
        return self.name < other.name


class VirtualFolder:
    """As much of a folder as a pulse uses."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def __truediv__(self, name: str) -> VirtualFile:
        return VirtualFile(self._node, name)

    def glob(self, pattern: str) -> list[VirtualFile]:
        names = [name for name in self._node.pulse_files if name.endswith(pattern.lstrip("*"))]
        return [VirtualFile(self._node, name) for name in names]

    def mkdir(self, **options: Any) -> None:
        pass


class VirtualPulse(Pulse):
    """One strand's pulse; its builder's programs share the folder and take turns."""

    def __init__(self, node: Node, program: Program, site: Site) -> None:
        folder: Any = VirtualFolder(node)
        super().__init__(folder, VirtualRefs(node), node.builder, site.clock, site.processes)
        self._node, self._program = node, program

    def stop(self, name: str) -> None:
        """As the product's; the witness hears that its own process takes a nonce out."""
        super().stop(name)
        self._node.world.witness.given_up.add(name)

    @contextmanager
    def _pushing(self) -> Iterator[None]:
        """As the product's: a pusher that was held up is passed over."""
        node = self._node
        node.step("pulse")
        until = self._clock.boottime() + pulses._PUSHER_SECONDS
        while node.pulse_held is not None and self._clock.boottime() < until:
            node.step("pulse", 0.05)
        node.pulse_held = self._program
        try:
            yield
        finally:
            if node.pulse_held is self._program:
                node.pulse_held = None


class VirtualSite(Site):
    """A program's site on a virtual machine."""

    def __init__(self, node: Node, program: Program, *words: Any) -> None:
        super().__init__(*words, step=node.disk_step, machine=lambda: node.machine, boot=lambda: node.boot)
        self.node, self.program = node, program

    def make_heart(self, job_id: str, token: str, progress: Callable[[], dict[str, Any]]) -> Heart:
        return VirtualHeart(self, job_id, token, progress)

    def make_pulse(self, *, own: bool = False) -> Pulse:
        return VirtualPulse(self.node, self.program, self)


@contextmanager
def virtual_pulses() -> Iterator[None]:
    """Lets pulses read virtual files for a while."""
    with patch.object(pulses, "read_plain", lambda place: place.read_bytes()):
        yield


class _Stop:
    """As much of an event as a renewing thread uses."""

    def __init__(self, node: Node) -> None:
        self._node, self.set = node, False

    def wait(self, seconds: float) -> bool:
        if not self.set:
            self._node.step("sleep", seconds / self._node.rate)
        return self.set


class VirtualHeart(Heart):
    """The product's heart, whose thread is a strand; a beat that is under way at its end keeps nobody."""

    def __init__(
        self, site: VirtualSite, job_id: str, token: str, progress: Callable[[], dict[str, Any]]
    ) -> None:
        interval = site.settings.heartbeat_seconds
        super().__init__(site.make_pulse(own=True), job_id, token, interval, site.random, progress)
        self._site = site
        stop: Any = _Stop(site.node)
        self._stop = stop

    def __enter__(self) -> Heart:
        self._site.node.thread(self._site.program, self._run)
        return self

    def __exit__(self, *exc: object) -> None:
        stop: Any = self._stop
        stop.set = True
        self._pulse.stop(self._token)


@contextmanager
def _kept(site: VirtualSite, held: lease.Lease, every: float) -> Iterator[None]:
    stop: Any = _Stop(site.node)
    site.node.thread(site.program, lambda: lease._keep(site, held, every, stop))
    try:
        yield
    finally:
        stop.set = True


@contextmanager
def virtual_leases() -> Iterator[None]:
    """Makes the thread that renews a lease a strand of the simulator for a while."""
    with patch.object(lease, "_kept", _kept):
        yield
