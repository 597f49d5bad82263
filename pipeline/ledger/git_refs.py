"""The ref store over real git: local path, file://, ssh and https.

A transaction's only git process is the push: objects are read and written here as loose files. The clone
beside the outbox is a cache; nothing in it has to survive (objects of an open attempt lie in the outbox).
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path

from pipeline.edge.process import Finished, run
from pipeline.errors import (
    CommandFailed,
    CommandTimedOut,
    LedgerError,
    LedgerNoSpace,
    LedgerRefLocked,
    LedgerRefused,
    LedgerUnauthorised,
    LedgerUnreachable,
)
from pipeline.ledger.memory import beat_objects
from pipeline.ledger.objects import EMPTY_TREE, Object
from pipeline.ledger.ports import Pushed
from pipeline.records import paths

_UNSAFE_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")
_STALE = re.compile(
    r"stale info|fetch first|non-fast-forward|atomic push failed|reference already exists|but expected", re.I
)
_RULES: list[tuple[re.Pattern[str], type[LedgerError], str]] = [
    (
        re.compile(r"No space left|Disk quota|disk full", re.I),
        LedgerNoSpace,
        "Free space on the remote's disk.",
    ),
    (
        re.compile(r"Unable to create .*\.lock|File exists", re.I),
        LedgerRefLocked,
        "Remove the ref's .lock file on the remote once no git process runs there.",
    ),
    (
        re.compile(
            r"Permission denied|Authentication failed|could not read (Username|Password)|access denied"
            r"|insufficient permission|\b40[13]\b|Host key verification failed",
            re.I,
        ),
        LedgerUnauthorised,
        "Check the key or token that git uses for this remote, and its right to push.",
    ),
    (
        re.compile(r"hook declined|protected branch|prohibited|denied|unpacker error|Read-only", re.I),
        LedgerRefused,
        "Look at the remote's hooks, branch protection and file permissions.",
    ),
]


class GitRefs:
    """One branch of a remote repository, through a bare clone of our own."""

    def __init__(
        self, clone: Path, remote: str, branch: str = paths.DEFAULT_BRANCH, *, timeout: float = 60.0
    ) -> None:
        """Names the clone's folder (made on first use), the remote's address and the branch.

        `timeout` bounds each git command, in seconds.
        """
        if remote.startswith("-"):
            raise LedgerError(f"{remote!r} cannot be the address of a repository.")
        self.clone = clone
        self.remote = remote
        self.ref = paths.branch_ref(branch)
        self._timeout = timeout
        self._cache: dict[str, Object] = {EMPTY_TREE.oid: EMPTY_TREE}
        self._env = _environment()

    # ------------------------------------------------------------ objects

    def read(self, oid: str) -> Object | None:
        found = self._cache.get(oid) or self._loose(oid)
        if found is None:
            self._read_packed([oid])
            return self._cache.get(oid)
        self._keep(found)
        return found

    def write(self, objects: Iterable[Object]) -> None:
        self._ensure_clone()
        for item in objects:
            self._keep(item)
            place = self._place(item.oid)
            if place.exists() and place.stat().st_size:
                continue
            place.parent.mkdir(exist_ok=True)
            temporary = place.with_name(f"tmp_{item.oid}.{os.getpid()}")
            temporary.write_bytes(
                zlib.compress(b"%s %d\0" % (item.kind.encode(), len(item.data)) + item.data, 1)
            )
            temporary.replace(place)

    def _loose(self, oid: str) -> Object | None:
        try:
            raw = zlib.decompress(self._place(oid).read_bytes())
        except (OSError, zlib.error):
            return None
        head, _, data = raw.partition(b"\0")
        return Object(oid, head.split(b" ")[0].decode(), data)

    def _read_packed(self, oids: Collection[str]) -> None:
        if not (self.clone / "HEAD").exists():
            return
        out = self._git(["cat-file", "--batch"], input="".join(f"{oid}\n" for oid in oids).encode()).stdout
        at = 0
        while at < len(out):
            end = out.index(b"\n", at)
            words = out[at:end].decode().split(" ")
            at = end + 1
            if len(words) == 3 and words[1] in ("blob", "tree", "commit"):
                size = int(words[2])
                self._keep(Object(words[0], words[1], out[at : at + size]))
                at += size + 1

    def _keep(self, found: Object) -> None:
        if len(self._cache) > 20_000:
            self._cache = {EMPTY_TREE.oid: EMPTY_TREE}
        self._cache[found.oid] = found

    def _place(self, oid: str) -> Path:
        return self.clone / "objects" / oid[:2] / oid[2:]

    def check_objects(self) -> int:
        """Removes loose objects that a power loss left broken, and returns how many there were."""
        broken = 0
        for place in (self.clone / "objects").glob("[0-9a-f][0-9a-f]/*"):
            try:
                whole = (
                    hashlib.sha1(zlib.decompress(place.read_bytes())).hexdigest()
                    == place.parent.name + place.name
                )
            except (OSError, zlib.error):
                whole = False
            if not whole:
                place.unlink(missing_ok=True)
                broken += 1
        if broken:
            self._git(
                ["fetch", "--quiet", "--refetch", "--no-tags", "--no-write-fetch-head", self.remote, self.ref]
            )
        return broken

    # ------------------------------------------------------------ the branch

    def tip(self) -> str | None:
        return self.beats("")[0]

    def fetch(self) -> str | None:
        while True:
            tip = self.tip()
            if tip is None or self.read(tip) is not None:
                break
            self._git_read(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", self.remote, self.ref])
            if self.read(tip) is not None:
                break
        if tip is not None:
            self._note(tip)
        return tip

    def push(self, commit: str, expected: str | None) -> Pushed:
        # A lease on the wrong parent would let a non-fast-forward through, and `:ref` deletes the branch.
        assert commit
        known = self.read(commit)
        assert known is not None
        assert expected is None or f"\nparent {expected}\n".encode() in known.data
        pushed = self._push([f"--force-with-lease={self.ref}:{expected or ''}"], f"{commit}:{self.ref}")
        if pushed.kind == "landed":
            self._note(commit)
        return pushed

    def contains(self, tip: str, commit: str) -> bool | None:
        if tip == commit:
            return True
        known = self.read(commit) is not None
        done = self._git(["merge-base", "--is-ancestor", commit, tip], check=False) if known else None
        if done is not None and done.returncode == 0:
            return True
        return None if self._is_shallow() else False

    def since(self, tip: str, base: str | None) -> list[str] | None:
        if base is not None and self.read(base) is None:
            return None
        words = ["rev-list", tip, *([f"^{base}"] if base else [])]
        done = self._git(words, check=False)
        if done.returncode != 0 or (self._is_shallow() and base is None):
            return None
        oids = done.text.split()
        self._read_packed([oid for oid in oids if oid not in self._cache])
        return oids

    # ------------------------------------------------------------ heartbeats

    def beat(self, ref: str, data: bytes) -> Pushed:
        objects = beat_objects(data)
        self.write(objects)
        return self._push([], f"+{objects[-1].oid}:{ref}")

    def beats(self, prefix: str) -> tuple[str | None, dict[str, str]]:
        self._ensure_clone()
        patterns = [self.ref, *([f"{prefix}*"] if prefix else [])]
        lines = self._git_read(["ls-remote", self.remote, *patterns]).text.splitlines()
        refs = {ref: oid for oid, _, ref in (line.partition("\t") for line in lines)}
        tip = refs.pop(self.ref, None)
        return tip, {ref: oid for ref, oid in refs.items() if prefix and ref.startswith(prefix)}

    def beat_data(self, refs: Collection[str]) -> dict[str, bytes]:
        if not refs:
            return {}
        lines = self._git_read(["ls-remote", self.remote, *refs]).text.splitlines()
        there = {ref: oid for oid, _, ref in (line.partition("\t") for line in lines) if ref in refs}
        missing = [ref for ref, oid in there.items() if self.read(oid) is None]
        if missing:
            self._git_read(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", self.remote, *missing])
        found = {}
        for ref, oid in there.items():
            done = self._git(["cat-file", "blob", f"{oid}:heartbeat.json"], check=False)
            if done.returncode == 0:
                found[ref] = done.stdout
        return found

    # ------------------------------------------------------------ below

    def _push(self, options: list[str], refspec: str) -> Pushed:
        words = ["push", "--porcelain", "--no-verify", *options, self.remote, refspec]
        try:
            done = self._git(words, check=False)
        except CommandTimedOut as exc:
            return Pushed("unknown", LedgerUnreachable(f"{self._shown()} gave no answer: {exc.message}"))
        if done.returncode == 0:
            return Pushed("landed")
        status = "\n".join(line for line in done.text.splitlines() if line.startswith("!"))
        said = f"{status}\n{done.errors}"
        if not status:
            error = self._translated(done)
            # Refused before anything was sent is an answer; a lost connection is none.
            return Pushed("unknown" if isinstance(error, LedgerUnreachable) else "refused", error)
        if _STALE.search(said):
            return Pushed("stale")
        return Pushed("refused", self._translated(done, status))

    def _translated(self, done: Finished, status: str = "") -> LedgerError:
        said = f"{status}\n{done.errors}"
        last = next((line for line in reversed(done.errors.splitlines()) if line.strip()), status)
        for pattern, error, remedy in _RULES:
            if pattern.search(said):
                return error(f"{self._shown()} refused: {last.strip()}", remedy=remedy)
        if status:
            return LedgerRefused(f"{self._shown()} refused: {status.split(chr(9))[-1]}", remedy=_RULES[-1][2])
        return LedgerUnreachable(
            f"{self._shown()} does not answer: {last.strip()}", remedy="Check the address and the connection."
        )

    def _git_read(self, words: list[str]) -> Finished:
        try:
            done = self._git(words, check=False)
        except CommandTimedOut as exc:
            raise LedgerUnreachable(f"{self._shown()} gave no answer: {exc.message}") from exc
        if done.returncode != 0 and "couldn't find remote ref" not in done.errors:
            raise self._translated(done)
        return done

    def _git(self, words: list[str], *, input: bytes = b"", check: bool = True) -> Finished:
        return run(
            ["git", "--git-dir", self.clone, *words],
            env=self._env,
            input=input,
            timeout=self._timeout,
            check=check,
        )

    def _ensure_clone(self) -> None:
        if (self.clone / "HEAD").exists():
            return
        make_bare(self.clone)

    def _note(self, tip: str) -> None:
        """Keeps a ref on the tip, so that fetches know what is here and nothing of it is pruned."""
        place = self.clone / self.ref
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f"{place.name}.{os.getpid()}.tmp")
        temporary.write_text(f"{tip}\n", encoding="ascii")
        temporary.replace(place)

    def _is_shallow(self) -> bool:
        return (self.clone / "shallow").exists()

    def _shown(self) -> str:
        """Returns the remote's address without a password."""
        return "The ledger's remote " + re.sub(r"//[^@/]*@", "//", self.remote)


def make_bare(folder: Path, *, branch: str = paths.DEFAULT_BRANCH) -> None:
    """Makes a bare repository whose writes survive a power loss and whose branches keep their history.

    Made beside its place and renamed, so that a half-made one is never used; of two at once one wins.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = folder.with_name(f"{folder.name}.{os.getpid()}.making")
    run(["git", "init", "--quiet", "--bare", f"--initial-branch={branch}", making], env=_environment())
    settings = {
        "core.fsync": "all",
        "core.fsyncMethod": "batch",
        "receive.denyDeletes": "true",
        "receive.denyNonFastForwards": "true",
        "gc.auto": "0",
        "receive.autogc": "false",
    }
    for key, value in settings.items():
        run(["git", "--git-dir", making, "config", key, value], env=_environment())
    try:
        making.rename(folder)
    except OSError as exc:
        run(["rm", "-rf", "--", making])
        if not (folder / "HEAD").exists():
            raise CommandFailed(f"{folder} cannot be made: {exc.strerror}") from exc


def _environment() -> dict[str, str]:
    """Returns git's environment: no prompts, messages in English, SSH connections shared by themselves."""
    env = {key: value for key, value in os.environ.items() if key not in _UNSAFE_VARIABLES}
    sockets = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp") / f"pipeline-{os.getuid()}"
    multiplex = (
        f"-o ControlMaster=auto -o ControlPath={sockets}/%C -o ControlPersist=60 -o BatchMode=yes"
        " -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=3"
    )
    sockets.mkdir(mode=0o700, exist_ok=True)
    env["GIT_SSH_COMMAND"] = f"{os.environ.get('GIT_SSH_COMMAND', 'ssh')} {multiplex}"
    env.update(GIT_TERMINAL_PROMPT="0", LC_ALL="C", GIT_OPTIONAL_LOCKS="0")
    return env
