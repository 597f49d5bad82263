"""The ref store over real git: local path, file://, ssh and https.

A transaction's only git process is the push: objects are read and written here as loose files. The clone
beside the outbox is a cache; nothing in it has to survive (objects of an open attempt lie in the outbox).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from threading import get_ident

from pipeline.edge.identity import boot_id
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
    StoreError,
)
from pipeline.ledger.memory import beat_objects
from pipeline.ledger.objects import EMPTY_TREE, RENEW, Object
from pipeline.ledger.ports import Pushed
from pipeline.ledger.receive import push_request, read_report
from pipeline.records import paths

_UNSAFE_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")
_MOVED = re.compile(r"is at [0-9a-f]{40} but expected|reference already exists|incorrect old value", re.I)
_RULES: list[tuple[str, type[LedgerError], str]] = [
    (
        r"No space left|Disk quota|disk full",
        LedgerNoSpace,
        "Free space on the remote's disk.",
    ),
    (
        r"Unable to create .*\.lock|File exists",
        LedgerRefLocked,
        "Remove the ref's .lock file on the remote once no git process runs there.",
    ),
    (
        r"Permission denied|Authentication failed|could not read (Username|Password)|access denied"
        r"|insufficient permission|error: 40[13]\b|Host key verification failed",
        LedgerUnauthorised,
        "Check the key or token that git uses for this remote, and its right to push.",
    ),
    (
        r"hook declined|protected branch|prohibited|denied|unpacker error|Read-only",
        LedgerRefused,
        "Look at the remote's hooks, branch protection and file permissions.",
    ),
]
#: Maintenance: about this many loose objects make it due; what nothing reaches is kept for so long.
_LOOSE_LIMIT = 4096
_PACK_LIMIT = 20
_GRACE = "2.hours.ago"
_OWNED = "pipeline.owned"
_FETCH = ("--no-tags", "--no-write-fetch-head", "--no-auto-maintenance")
_READ_FIRST = (paths.LEDGER, paths.JOBS, paths.LOCKS, paths.MESSAGES, paths.MAILBOX, paths.REGISTRY)


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
        self._env = _environment(remote)
        self._ready = self._asked = False
        self._here = False
        self._written: list[Object] = []
        self._landed: str | None = None

    # ------------------------------------------------------------ objects

    def read(self, oid: str) -> Object | None:
        found = self._cache.get(oid) or self._loose(oid)
        if found is None:
            # What a commit is looked at for is asked for with it: one process instead of six.
            beside = ["^{tree}", ":coordination", *(f":{path}" for path in _READ_FIRST)]
            self._read_packed([oid, *(oid + each for each in beside)])
            return self._cache.get(oid)
        self._keep(found)
        return found

    def write(self, objects: Iterable[Object]) -> None:
        self._ensure_clone()
        self._written = list(objects)
        for item in self._written:
            self._keep(item)
            data = zlib.compress(b"%s %d\0" % (item.kind.encode(), len(item.data)) + item.data, 1)
            self._replace(f"objects/{item.oid[:2]}/{item.oid[2:]}", data)

    def _replace(self, name: str, data: bytes) -> None:
        """Writes a file of the clone under another name and renames it. Not durable."""
        place, temporary = f"{self.clone}/{name}", f"{self.clone}/tmp_{os.getpid()}.{get_ident()}"
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                while data:
                    data = data[os.write(handle, data) :]
            finally:
                os.close(handle)
            try:
                os.replace(temporary, place)  # noqa: PTH105 (a third of the time of Path.replace)
            except FileNotFoundError:
                Path(place).parent.mkdir(parents=True, exist_ok=True)
                Path(temporary).replace(place)
        except OSError as exc:
            raise StoreError(
                f"The clone {self.clone} cannot be written: {exc.strerror}.",
                remedy="Free space there, and give this user write access; nothing was lost.",
            ) from exc

    def _loose(self, oid: str) -> Object | None:
        try:
            raw = zlib.decompress(self._place(oid).read_bytes())
        except (OSError, zlib.error):
            return None
        head, _, data = raw.partition(b"\0")
        return Object(oid, head.split(b" ")[0].decode(), data)

    def _read_packed(self, oids: Collection[str]) -> None:
        self._ensure_clone()
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
        """Mends what a power loss left of the clone, and returns how many files were broken.

        The clone is a cache: a loose object that is not what its name says goes, and if the ref, which tells
        the next fetch what is here already, has not all below it any more, everything is fetched again.
        """
        broken = 0
        for place in (self.clone / "objects").glob("[0-9a-f][0-9a-f]/*"):
            try:
                found = hashlib.sha1(zlib.decompress(place.read_bytes())).hexdigest()
            except (OSError, zlib.error):
                found = ""
            if found != place.parent.name + place.name:
                place.unlink(missing_ok=True)
                broken += 1
        noted = self.clone / self.ref
        if noted.exists():
            known = noted.read_bytes().strip().decode(errors="replace")
            words = ["rev-list", "--objects", "--quiet", known]
            if not re.fullmatch("[0-9a-f]{40}", known) or self._git(words, check=False).returncode != 0:
                noted.unlink()
                broken += 1
                self._git_read(["fetch", "--quiet", "--refetch", *_FETCH, self.remote, self.ref])
        return broken

    # ------------------------------------------------------------ the branch

    def tip(self) -> str | None:
        return self.beats("")[0]

    def fetch(self) -> str | None:
        for again in range(4):
            tip = self.tip()
            if tip is None:
                return None
            if tip in self._cache or self._loose(tip) is not None:
                break
            if self._landed:
                self._note(self._landed)
            self._git_read(["fetch", "--quiet", *_FETCH, self.remote, self.ref])
            if self.read(tip) is not None:
                break
            if again == 2:
                self.check_objects()
        else:
            raise LedgerError(f"{self._shown()} does not give its commit {tip}.", remedy=RENEW)
        self._note(tip)
        return tip

    def push(self, commit: str, expected: str | None) -> Pushed:
        # A lease on the wrong parent would let a non-fast-forward through, and `:ref` deletes the branch.
        assert commit
        known = self.read(commit)
        assert known is not None
        assert expected is None or f"\nparent {expected}\n".encode() in known.data
        self._insist_on_one_address()
        pushed = self._push_here(commit, expected) if self._here else None
        if pushed is None:
            pushed = self._push([f"--force-with-lease={self.ref}:{expected or ''}"], f"{commit}:{self.ref}")
        if pushed.kind == "landed":
            self._landed = commit
        return pushed

    def _push_here(self, commit: str, expected: str | None) -> Pushed | None:
        """Pushes to a repository of this machine. None: not for want of trying; git knows more about it."""
        if not self._written or self._written[-1].oid != commit:
            return None
        request = push_request(self.ref, expected, commit, self._written)
        words = ["git", "receive-pack", self.remote.removeprefix("file://")]
        try:
            done = run(words, env=self._env, input=request, timeout=self._timeout, check=False)
        except CommandTimedOut as exc:
            return Pushed("unknown", LedgerUnreachable(f"{self._shown()} gave no answer: {exc.message}"))
        report = read_report(done.stdout, self.ref)
        if report.verdict == "ok" or report.before == commit:
            return Pushed("landed")
        if not report.verdict:
            return Pushed("unknown", self._translated(done))
        if report.before != expected or _MOVED.search(report.verdict + done.errors):
            return Pushed("stale")
        if "missing necessary objects" in report.verdict:
            return None
        return Pushed("refused", self._translated(done, report.verdict))

    def contains(self, tip: str, commit: str) -> bool | None:
        if tip == commit:
            return True
        known = self.read(commit) is not None
        done = self._git(["merge-base", "--is-ancestor", commit, tip], check=False) if known else None
        if done is not None and done.returncode == 0:
            return True
        return None if self._cut() else False

    def since(self, tip: str, base: str | None) -> list[str] | None:
        if base is not None and self.read(base) is None:
            return None
        done = self._git(["rev-list", tip, *([f"^{base}"] if base else [])], check=False)
        oids = done.text.split()
        # Git shows a shallow clone's oldest commits as if they had no parents.
        if done.returncode != 0 or not self._cut().isdisjoint(oids):
            return None
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
            self._git_read(["fetch", "--quiet", *_FETCH, self.remote, *missing])
        found = {}
        for ref, oid in there.items():
            done = self._git(["cat-file", "blob", f"{oid}:heartbeat.json"], check=False)
            if done.returncode == 0:
                found[ref] = done.stdout
        return found

    def try_push(self, refspecs: list[str], *options: str) -> str | None:
        """Pushes any refs of objects known locally; returns None when taken, otherwise the remote's reason.

        For probes of what a host allows. Raises LedgerUnreachable where the remote gives no verdict.
        """
        words = ["push", "--porcelain", "--no-verify", *options, self.remote, *refspecs]
        done = self._git(words, check=False)
        if done.returncode == 0:
            return None
        verdicts = [line.split("\t") for line in done.text.splitlines() if line.startswith("!")]
        if not verdicts:
            said = self._translated(done)
            if isinstance(said, LedgerUnreachable):
                raise said
            return said.message
        return verdicts[0][-1].strip()

    # ------------------------------------------------------------ below

    def _push(self, options: list[str], refspec: str) -> Pushed:
        self._insist_on_one_address()
        words = ["push", "--porcelain", "--no-verify", *options, self.remote, refspec]
        try:
            done = self._git(words, check=False)
        except CommandTimedOut as exc:
            return Pushed("unknown", LedgerUnreachable(f"{self._shown()} gave no answer: {exc.message}"))
        if done.returncode == 0:
            return Pushed("landed")
        status = next((line for line in done.text.splitlines() if line.startswith("!")), "")
        if not status or "[remote failure]" in status:
            # Whatever else was said: without the remote's own verdict the push may still be applied.
            return Pushed("unknown", self._translated(done))
        if "[rejected]" in status or _MOVED.search(status + done.errors):
            return Pushed("stale")
        return Pushed("refused", self._translated(done, status))

    def _insist_on_one_address(self) -> None:
        """Refuses a remote that is read in one place and written in another. Asked once, before a push."""
        if self._asked:
            return
        rules = r"^(url\..*\.(push)?insteadof|remote\..*\.pushurl)$"
        written, rewritten = [], False
        for line in self._git(["config", "--get-regexp", rules], check=False).text.splitlines():
            key, _, to = line.partition(" ")
            name, _, kind = key.partition(".")[2].rpartition(".")
            if kind == "pushinsteadof" and self.remote.startswith(to):
                written.append(name + self.remote[len(to) :])
            elif kind == "pushurl" and name == self.remote:
                written.append(to)
            rewritten = rewritten or (kind == "insteadof" and self.remote.startswith(to))
        if written and {self._git(["ls-remote", "--get-url", self.remote]).text} != set(written):
            raise LedgerError(
                f"{self._shown()} is read from there, but git pushes to {_masked(written[-1])}.",
                remedy="Remove `pushInsteadOf` or `pushurl` for this address from git's configuration.",
            )
        self._asked = True
        plain = self.remote.removeprefix("file://")
        self._here = plain.startswith("/") and "%" not in plain and not written and not rewritten

    def _translated(self, done: Finished, status: str = "") -> LedgerError:
        said = _masked(f"{status}\n{done.errors}")
        lines = [line for line in said.splitlines() if line.strip()]
        # Git explains itself in several lines; the first that calls itself fatal says what happened.
        last = next((line for line in lines if line.startswith("fatal: ")), lines[-1] if lines else "")
        for pattern, error, remedy in _RULES:
            if re.search(pattern, said, re.I):
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
        """Makes the clone on first use; after a reboot, which may have been a power loss, mends it first."""
        if self._ready:
            return
        if not (self.clone / "HEAD").exists():
            make_bare(self.clone)
        self._ready = True
        boot = self.clone / "boot"
        if not boot.exists() or boot.read_bytes() != boot_id().encode():
            self.check_objects()
            self._replace("boot", boot_id().encode())

    def _note(self, tip: str) -> None:
        """Keeps a ref on the tip, so that fetches know what is here and nothing of it is pruned."""
        self._replace(self.ref, f"{tip}\n".encode())

    def _cut(self) -> set[str]:
        """Returns the commits below which this clone has no history."""
        place = self.clone / "shallow"
        return set(place.read_text(encoding="ascii").split()) if place.exists() else set()

    def _shown(self) -> str:
        return f"The ledger's remote {_masked(self.remote)}"

    # ------------------------------------------------------------ maintenance

    def maintain(self) -> None:
        self.fetch()  # so that a ref is on the tip, and what it reaches is kept
        there = Path(self.remote.removeprefix("file://"))
        for folder in (self.clone, there):
            if folder.is_absolute() and folder.is_dir() and _is_due(folder):
                self._maintain(folder)

    def _maintain(self, folder: Path) -> None:
        """Prunes and packs one repository of our own, step by step, each bounded by the timeout.

        Safe against whoever reads and writes meanwhile: what is younger than two hours stays, whether
        anything reaches it or not. Steps aside for a push that is being received and for another maintenance.
        """
        git = ["git", "--git-dir", str(folder)]
        if run([*git, "config", _OWNED], env=self._env, check=False).returncode != 0:
            return
        with (folder / "maintenance.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            hour_ago = os.fstat(lock.fileno()).st_mtime - 3600
            if any(p.stat().st_mtime > hour_ago for p in (folder / "objects").glob("*incoming*")):
                return
            steps = [["prune", f"--expire={_GRACE}"], ["repack", "-d", "--quiet"]]
            if len(list((folder / "objects/pack").glob("*.pack"))) >= _PACK_LIMIT:
                steps.append(["repack", "-d", "--quiet", "--geometric=2"])
            for step in steps:
                run([*git, *step], env=self._env, timeout=self._timeout, check=False)


def _is_due(folder: Path) -> bool:
    try:
        return len(list((folder / "objects/17").iterdir())) * 256 >= _LOOSE_LIMIT
    except OSError:
        return False


def _masked(text: str) -> str:
    """Returns text without the credentials of the addresses in it."""
    return re.sub(r"://[^/\s]*@", "://", text)


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
        _OWNED: "true",
    }
    for key, value in settings.items():
        run(["git", "--git-dir", making, "config", key, value], env=_environment())
    try:
        making.rename(folder)
    except OSError as exc:
        run(["rm", "-rf", "--", making])
        if not (folder / "HEAD").exists():
            raise CommandFailed(f"{folder} cannot be made: {exc.strerror}") from exc


def _environment(remote: str = "/") -> dict[str, str]:
    """Returns git's environment: no prompts, messages in English, SSH connections shared by themselves."""
    env = {key: value for key, value in os.environ.items() if key not in _UNSAFE_VARIABLES}
    env.update(GIT_TERMINAL_PROMPT="0", LC_ALL="C", GIT_OPTIONAL_LOCKS="0")
    ssh = remote.startswith("ssh://") or ("://" not in remote and ":" in remote.partition("/")[0])
    if not ssh or "GIT_SSH" in env:
        return env
    sockets = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp") / f"pipeline-{os.getuid()}"
    with suppress(FileExistsError):
        sockets.mkdir(mode=0o700)
    found = sockets.lstat()
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    own = run(["git", "config", "core.sshCommand"], env=env, check=False).text
    command = env.get("GIT_SSH_COMMAND") or own or "ssh"
    shared = f" -o ControlMaster=auto -o ControlPath={sockets}/%C -o ControlPersist=60" if private else ""
    env["GIT_SSH_COMMAND"] = (
        f"{command}{shared} -o BatchMode=yes -o ConnectTimeout=10"
        " -o ServerAliveInterval=5 -o ServerAliveCountMax=3"
    )
    return env
