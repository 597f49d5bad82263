"""Another environment on purpose: a builder that differs from its machine in all that must not matter.

The second builder of the embedded default runs on the machine of the first. What would differ between two
machines is made to differ here: folder and time zone in any case, user and host name where the kernel lets a
process have namespaces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipeline.builds.commands import Surroundings
from pipeline.builds.workspace import Place
from pipeline.edge.mounts import probe_mounts
from pipeline.records.builds import Environment, Recipe

_PASSWD: Final = "/etc/passwd"
_HOSTS: Final = "/etc/hosts"
_TIMEZONE: Final = "Pacific/Kiritimati"
#: A number that no system gives anybody by itself.
_USER: Final = 54_321


@dataclass(frozen=True)
class Variation:
    """What is different. `user` and `host` are None where this machine does not allow it: `why` says so."""

    timezone: str
    user: str | None
    host: str | None
    why: str | None = None

    def place(self, work: Path) -> Place | None:
        """Returns where builds lie: in their own folder, not at the path that every builder has.

        None where that path could not be given to Maven: it has to be the other one then.
        """
        path = work.resolve()
        if any(char.isspace() or char in "'\"$\\" for char in str(path)):
            return None
        return Place(path, fixed=False, why="its folder is another one on purpose")

    def of_recipe(self, recipe: Recipe) -> Recipe:
        """Returns a recipe for the other time zone. It is no input: a comparison counts it as environment."""
        environment = {**recipe.environment, "TZ": self.timezone}
        return recipe.model_copy(update={"environment": environment, "timezone": self.timezone})

    def of_surroundings(self, around: Surroundings, folder: Path) -> Surroundings:
        """Returns what a build is given; the files that it sees instead of the machine's lie in `folder`."""
        if self.user is None or self.host is None:
            return around
        mounts = []
        for target, line in (
            (_PASSWD, f"{self.user}:x:{_USER}:{_USER}::/nonexistent:/bin/sh\n"),
            (_HOSTS, f"127.0.1.1 {self.host}\n"),
        ):
            if Path(target).is_file():
                own = folder / Path(target).name
                own.write_bytes(line.encode() + Path(target).read_bytes())
                mounts.append((str(own), target))
        environment = {**around.environment, "USER": self.user, "LOGNAME": self.user}
        return replace(around, mounts=tuple(mounts), host=self.host, user=_USER, environment=environment)

    def of_environment(self, seen: Environment | None) -> Environment | None:
        """Returns what a builder states of where it built, and that this was on purpose."""
        if seen is None:
            return None
        changes: dict[str, object] = {}
        if self.user is not None:
            changes = {"user": self.user, "user_id": _USER, "host": self.host}
        return seen.model_copy(update={**changes, "varied": sorted({"folder", "home", "timezone", *changes})})


def vary(builder: str, work: Path, probe: Callable[..., str | None] = probe_mounts) -> Variation:
    """Returns how a builder of this machine differs from it, as far as the machine lets it."""
    host = f"{builder}-host"
    work.mkdir(parents=True, exist_ok=True)
    trial = work / "passwd.trial"
    trial.touch()
    why = (
        probe(str(trial), _PASSWD, apart=(host, _USER))
        if Path(_PASSWD).is_file()
        else f"there is no {_PASSWD}"
    )
    trial.unlink(missing_ok=True)
    if why is not None:
        return Variation(_TIMEZONE, None, None, why)
    return Variation(_TIMEZONE, f"{builder}-user", host)
