"""What this machine can be for a build that is made again: another environment, as far as it can be had here.

An environment is taken from a manifest, that is, from anybody. So each value has to look like one of its
kind, and none names a program or a file of this machine: PATH and the tools stay this machine's own.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.builds.variation import Variation
from pipeline.builds.workspace import FIXED_ROOT, Place
from pipeline.edge.mounts import probe_mounts
from pipeline.edge.process import run
from pipeline.records.builds import Environment

_TREE: Final = "/build/cloudstack"
_SOUND: Final[Mapping[str, re.Pattern[str]]] = {
    "timezone": re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}"),
    "locale": re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,31}"),
    "umask": re.compile(r"[0-7]{3}"),
    "user": re.compile(r"[a-z_][a-z0-9_-]{0,31}\((?P<number>\d{1,9})\)"),
    "host": re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}"),
    "folder": re.compile(r"(?:/[A-Za-z0-9_.+-]+){2,40}"),
    "cores": re.compile(r"[1-9]\d{0,3}"),
}

#: What is recorded of where a build ran, and stays this machine's own.
NOT_VARIED: Final = ("kernel", "architecture", "distribution", "path", "toolchain", "packages")

#: By the name of a thing: the value that an environment has of it.
Values = Mapping[str, str]


def values_of(environment: Environment) -> dict[str, str]:
    """Returns what an environment states of each thing that can be changed, but for what is odd."""
    user = environment.user and f"{environment.user}({environment.user_id})"
    stated = {
        "timezone": environment.timezone,
        "locale": environment.locale,
        "umask": environment.umask,
        "user": user if environment.user_id is not None else None,
        "host": environment.host,
        "folder": environment.folder,
        "cores": None if environment.cores is None else str(environment.cores),
    }
    return {name: value for name, value in stated.items() if value and _SOUND[name].fullmatch(value)}


@dataclass(frozen=True)
class Stage:
    """What a machine is by itself, and why it cannot be something else. `mounts` and `apart` are None where a
    build can have mounts, and a user and a host name, of its own; else they say why not.

    `speaks` says whether a locale is installed. Folders may be made below `grounds` alone.
    """

    own: Values
    processors: tuple[int, ...]
    speaks: Callable[[str], bool]
    mounts: str | None
    apart: str | None
    backwards: str | None
    grounds: Path

    def why_not(self, thing: str, value: str) -> str | None:
        """Returns why a thing cannot have a value here, or None where it can."""
        if thing == "order":
            return self.backwards
        if thing == "locale" and not self.speaks(value):
            return f"the locale {value} is not installed here"
        if thing in ("user", "host") and value != self.own.get(thing) and self.apart is not None:
            return self.apart
        if thing == "cores" and not self._processors(value) and value != self.own.get("cores"):
            return f"there are only {len(self.processors)} here"
        return None

    def exact(self, thing: str, value: str) -> bool:
        """Says whether a build here can have just this value, and not only another one than its own."""
        if thing == "folder":
            return self._seen_at(value) is not None
        return thing != "order" and not (thing == "cores" and int(value) > len(self.processors))

    def variation(self, values: Values) -> Variation:
        """Returns what gives a build these values."""

        def changed(thing: str) -> str | None:
            value = values.get(thing)
            return value if value is not None and value != self.own.get(thing) else None

        user = _SOUND["user"].fullmatch(changed("user") or "")
        cores = changed("cores")
        return Variation(
            values.get("timezone", "UTC"),
            user[0].partition("(")[0] if user else None,
            changed("host"),
            number=int(user["number"]) if user else 0,
            locale=values.get("locale"),
            umask=values.get("umask"),
            processors=self._processors(cores) if cores else (),
            backwards="order" in values,
        )

    def place(self, work: Path, folder: str) -> Place:
        """Returns where builds lie that see their tree in a folder; or in one for each such folder."""
        at = self._seen_at(folder)
        if at is not None:
            return Place(work, fixed=True, at=at)
        own = hashlib.sha256(folder.encode()).hexdigest()[:8]
        return Place(work / own, fixed=False, why=self.mounts or "its path is another builder's")

    def _seen_at(self, folder: str) -> str | None:
        """Returns where a build's directory is mounted so that its tree is in a folder, or None."""
        at = folder.removesuffix(_TREE)
        if self.mounts is not None or at == folder:
            return None
        below = Path(at).is_relative_to(self.grounds) and ".." not in Path(at).parts
        return at if at == FIXED_ROOT or below else None

    def _processors(self, count: str) -> tuple[int, ...]:
        """Returns so many processors; of a machine that has fewer, one: another number as well."""
        wanted = int(count)
        if wanted <= len(self.processors):
            return self.processors[:wanted]
        return self.processors[:1] if len(self.processors) > 1 else ()


def speaks(locale: str) -> bool:
    """Says whether programs on this machine can use a locale."""
    return not run(["locale"], env={**os.environ, "LC_ALL": locale}, check=False).errors


def look(
    own: Environment,
    work: Path,
    grounds: Path,
    probe: Callable[..., str | None] = probe_mounts,
) -> Stage:
    """Finds out what this machine can be. `own` is what it states of itself."""
    work.mkdir(parents=True, exist_ok=True)
    trial = work / "passwd.trial"
    trial.touch()
    mounts = probe(str(work), FIXED_ROOT) if Path(FIXED_ROOT).is_dir() else f"there is no {FIXED_ROOT}"
    apart = probe(str(trial), "/etc/passwd", apart=("another-host", 54_321))
    trial.unlink()
    if shutil.which("taskset") is None:
        processors: tuple[int, ...] = ()
    else:
        processors = tuple(sorted(os.sched_getaffinity(0)))
    backwards = None
    if shutil.which("disorderfs") is None:
        backwards = "disorderfs is not installed"
    elif mounts is not None or os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK):
        backwards = mounts or "disorderfs needs root and /dev/fuse"
    return Stage(values_of(own), processors, speaks, mounts, apart, backwards, grounds)
