"""Runs a program on files that nobody vouches for, so that it can do nothing but print.

Where the machine permits it the program has namespaces of its own: no network, no other process in sight,
nothing to write to but 64 MB of memory that are gone afterwards; as root it runs as `nobody`. Always bounded
are its time, its processor's time, its memory, each file that it writes and its output; and how many
processes there may be, but for the caller's own without a namespace. What the machine does not permit is
said in `Confinement.lacks`.

Non-guarantees: memory is bounded for each process and not for all together; what every user of this machine
may read the program may read as well, and print.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil

from pipeline.edge.kernel import set_subreaper
from pipeline.edge.plain_file import open_plain
from pipeline.edge.process import run
from pipeline.edge.survivors import end_processes
from pipeline.errors import CommandFailed, CommandTimedOut

#: What the script ends with where the machine does not permit what it tries.
_NOT_HERE: Final = 97
_ERRORS_BYTES: Final = 4096
_ROOM_BYTES: Final = 64 << 20
_GRACE_SECONDS: Final = 1.0
#: All files have one time, that no difference comes of it; with 0 javap takes a file for none.
_TIME: Final = 315_532_800
_SPACES: Final = ("--mount", "--pid", "--net", "--ipc", "--uts", "--propagation", "private")
_KILLED: Final = ("--fork", "--kill-child")

# Run by whoever compares: the outputs are files of its own, which the program gets open.
_OUTER: Final = 'cd "$1/files" && exec >"$1/out" 2>"$1/errors" </dev/null; shift; exec "$@"'

# $1 is the cage. What everybody may write to is covered by memory, and the cage is bound to where everybody
# reaches it, wherever it lies. Nothing has to be unmounted: the namespace ends with the program.
_INNER: Final = f"""
cage=$1; shift
cover() {{ mount -t tmpfs -o nosuid,nodev,mode=1777,nr_inodes=4k,size="$2" room "$1"; }}
prepare() {{
    cd "$cage" && cover /tmp {_ROOM_BYTES} || return 1
    for each in /var/tmp /dev/shm /run/lock; do
        [ ! -d "$each" ] || cover "$each" 1m || return 1
    done
    mount -t proc proc /proc && mkdir /tmp/show && mount --no-canonicalize --bind . /tmp/show &&
    mount -o remount,bind,ro /tmp/show
}}
prepare || exit {_NOT_HERE}
[ "$OTHERS" = no ] || mount -o remount,bind,ro / || true
cd /tmp/show/files && exec "$@"
"""


@dataclass(frozen=True)
class Bounds:
    """What one program may take: seconds, of a processor's as well; bytes of memory for each process and of
    each file it writes, its output being one; processes of its user.
    """

    seconds: float = 20.0
    processor_seconds: int = 20
    memory_bytes: int = 2 << 30
    output_bytes: int = 4 << 20
    processes: int = 128


#: A machine that is only slow must not be taken for one that permits less.
_TRYING: Final = Bounds(seconds=120.0)


@dataclass(frozen=True)
class Ran:
    """What a program left. `status` is None where its time ran out, and it could not even be started with
    `errors` saying why where it is 127; `cut`: there was more output than it may write.
    """

    status: int | None
    output: bytes
    errors: str
    cut: bool = False


@dataclass(frozen=True)
class Confinement:
    """What this machine permits: `words` go before a program's, and `told` says it in a sentence's part.

    `lacks` are the protections that there are none of here. Where it is not `usable` nothing is run at all.
    """

    words: tuple[str, ...]
    user: int | None
    told: str
    lacks: tuple[str, ...] = ()
    space: bool = True
    usable: bool = True

    def argv(self, cage: Path, program: Sequence[str], bounds: Bounds) -> list[str]:
        """Returns the words that run a program in a folder with `files` in it."""
        limits = (
            *("--core=0", f"--cpu={bounds.processor_seconds}", f"--as={bounds.memory_bytes}"),
            *(f"--fsize={bounds.output_bytes}", "--nofile=512"),
            # Of the caller's own all count, also those that were there before.
            *((f"--nproc={bounds.processes}",) if self.space or self.user is not None else ()),
        )
        inner = ("sh", "-uc", _INNER, "sh", str(cage)) if self.space else ()
        return [*self.words, *inner, *self._drop(), "prlimit", *limits, "--", *program]

    def _drop(self) -> tuple[str, ...]:
        words = ["setpriv", "--no-new-privs", "--inh-caps=-all"]
        if self.user is not None:
            words += [f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        if self.user is not None or self.space:
            words.append("--bounding-set=-all")
        return tuple(words)


class ConfinedPrograms:
    """The programs of this machine, run as confined as it permits."""

    def where(self, name: str) -> str | None:
        """Returns where a program lies; None where there is none, or nothing to confine it with."""
        return shutil.which(name) if confined_here().usable else None

    def run(self, program: Sequence[str], files: Mapping[str, bytes], bounds: Bounds) -> Ran:
        """Runs a program in a folder that holds these files. Raises OSError."""
        return run_confined(program, files, bounds)

    @property
    def confined(self) -> str:
        """Says how they are run, in words."""
        how = confined_here()
        return "; ".join((how.told, *how.lacks))


def run_confined(
    program: Sequence[str],
    files: Mapping[str, bytes],
    bounds: Bounds = Bounds(),
    confinement: Confinement | None = None,
) -> Ran:
    """Runs a program in a folder of its own that holds these files; returns what it printed.

    It can change neither the files nor what is seen of them afterwards. When this returns, nothing of it
    runs. Raises nothing for whatever the program does, OSError where the folder cannot be made.
    """
    how = confinement or confined_here()
    with TemporaryDirectory(prefix="pipeline-show-") as name:
        cage = Path(name)
        _furnish(cage, files, how.user)
        status, why = _run(["sh", "-uc", _OUTER, "sh", name, *how.argv(cage, program, bounds)], bounds)
        output, cut = _read(cage / "out", bounds.output_bytes)
        errors = _read(cage / "errors", _ERRORS_BYTES)[0].decode(errors="replace").strip()
    return Ran(status, output, why or errors, cut)


@cache
def confined_here() -> Confinement:
    """Returns the strictest confinement that this machine permits this user, found out by trying."""
    own = os.geteuid() != 0
    user = None if own else _nobody()
    who = "as the calling user" if own else "as nobody"
    spaces = ("unshare", *(("--user", "--map-root-user") if own else ()), *_SPACES, *_KILLED, "--")
    lacks: tuple[str, ...] = ("the network is reachable: this machine permits no namespace of its own",)
    tried = (
        Confinement(spaces, user, f"{who}, without a network"),
        Confinement((), user, f"{who}, with a network", lacks, space=False),
    )
    for each in tried:
        if run_confined(["true"], {}, _TRYING, each).status == 0:
            return each
    return Confinement((), None, "not at all", ("util-linux is not installed",), space=False, usable=False)


def _nobody() -> int:
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65534


def _furnish(cage: Path, files: Mapping[str, bytes], user: int | None) -> None:
    """Writes the files so that the program's user may read them, and nobody else."""
    group = -1 if user is None else user
    (cage / "files").mkdir()
    folders = {cage, cage / "files"}
    for name, data in files.items():
        place = cage / "files" / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(data)
        os.utime(place, (_TIME, _TIME))
        os.chown(place, -1, group)
        place.chmod(0o440)
        folders.add(place.parent)
    for folder in folders:
        os.chown(folder, -1, group)
        folder.chmod(0o750)


def _run(argv: Sequence[str], bounds: Bounds) -> tuple[int | None, str]:
    """Runs to the end, or ends it with all that it started. Returns its status, and what kept it from one."""
    before = set_subreaper(True)
    others = {each.pid for each in psutil.Process().children()}
    home = {"HOME": "/tmp", "TMPDIR": "/tmp", "LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", os.defpath)}
    home["OTHERS"] = "no" if os.geteuid() == 0 else "yes"
    try:
        # Asked whether to stop, it is in a process group of its own: a terminal's Ctrl-C reaches this alone.
        done = run(argv, env=home, timeout=bounds.seconds, check=False, stop=lambda: False)
    except CommandTimedOut:
        return None, f"it took longer than {bounds.seconds:g} s"
    except CommandFailed as exc:
        return 127, exc.message
    finally:
        end_processes(lambda: _orphans(others), _GRACE_SECONDS)
        set_subreaper(before)
    return done.returncode, ""


def _orphans(others: set[int]) -> list[psutil.Process]:
    """Returns what the program left behind, which are this process's children then."""
    left = [each for each in psutil.Process().children() if each.pid not in others]
    return [process for each in left for process in (each, *_below(each))]


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _read(place: Path, most: int) -> tuple[bytes, bool]:
    """Returns what a file of the cage holds, and whether that is as much as it may hold."""
    try:
        with open_plain(place) as file:
            data = file.read(most)
    except OSError:
        return b"", False
    return data, len(data) == most
