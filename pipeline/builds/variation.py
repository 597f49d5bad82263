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
from pipeline.builds.workspace import Place, Workspace
from pipeline.edge.mounts import probe_mounts
from pipeline.records.builds import Environment, Recipe

_PASSWD: Final = "/etc/passwd"
_HOSTS: Final = "/etc/hosts"
_TIMEZONE: Final = "Pacific/Kiritimati"
#: A number that no system gives anybody by itself.
_USER: Final = 54_321
#: Lists every folder backwards. It lies over what it shows, so it is mounted where only the build sees it.
_BACKWARDS: Final = (
    'disorderfs --multi-user=no --sort-dirents=yes --reverse-dirents=yes -o nonempty "$0" "$1"'
    " > /dev/null || exit; "
    'cd "$1/${PWD##*/}" || exit; shift; exec "$@"'
)


@dataclass(frozen=True)
class Variation:
    """What is different. `user` and `host` are None where this machine does not allow it: `why` says so.

    `number` is the user's. What else is None, or empty, is as the recipe and the machine have it: `locale`,
    `umask`, the `processors` that a build may use, by number. With `backwards` every folder lists its files
    in reverse; that takes disorderfs, and a tree that the build sees elsewhere than it lies.
    """

    timezone: str
    user: str | None
    host: str | None
    why: str | None = None
    number: int = _USER
    locale: str | None = None
    umask: str | None = None
    processors: tuple[int, ...] = ()
    backwards: bool = False

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
        changes: dict[str, object] = {"timezone": self.timezone}
        if self.locale is not None:
            environment |= {"LC_ALL": self.locale, "LANG": self.locale}
            changes["locale"] = self.locale
        if self.umask is not None:
            changes["umask"] = self.umask
        return recipe.model_copy(update={**changes, "environment": environment})

    def of_surroundings(self, around: Surroundings, room: Workspace) -> Surroundings:
        """Returns what a build is given; the files that it sees instead of the machine's lie in its room."""
        lines = {}
        environment = dict(around.environment)
        if self.user is not None:
            lines[_PASSWD] = f"{self.user}:x:{self.number}:{self.number}::/nonexistent:/bin/sh\n"
            environment |= {"USER": self.user, "LOGNAME": self.user}
        if self.host is not None:
            lines[_HOSTS] = f"127.0.1.1 {self.host}\n"
        mounts = []
        for target, line in lines.items():
            if Path(target).is_file():
                own = room.root / Path(target).name
                own.write_bytes(line.encode() + Path(target).read_bytes())
                mounts.append((str(own), target))
        through: list[str] = []
        if self.processors:
            through += ["taskset", "-c", ",".join(map(str, self.processors))]
        if self.backwards:
            through += ["sh", "-c", _BACKWARDS, str(room.output), room.inside(room.output)]
        return replace(
            around,
            mounts=(*around.mounts, *mounts),
            host=self.host,
            user=None if self.user is None else self.number,
            environment=environment,
            through=tuple(through),
        )

    def of_environment(self, seen: Environment | None) -> Environment | None:
        """Returns what a builder states of where it built, and that this was on purpose."""
        if seen is None:
            return None
        changes: dict[str, object] = {}
        if self.user is not None:
            changes |= {"user": self.user, "user_id": self.number}
        if self.host is not None:
            changes["host"] = self.host
        if self.processors:
            changes["cores"] = len(self.processors)
        changes |= {name: value for name in ("locale", "umask") if (value := getattr(self, name)) is not None}
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
