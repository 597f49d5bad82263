"""A remote repository's address: how git is run for it, and what git's words about it mean."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from pipeline.edge.credentials import (
    config_variables,
    credential_settings,
    credential_variables,
    masked,
    split_url,
)
from pipeline.edge.process import Finished, Leash, run
from pipeline.errors import (
    CommandTimedOut,
    LedgerError,
    LedgerNoSpace,
    LedgerRefLocked,
    LedgerRefused,
    LedgerUnauthorised,
    LedgerUnreachable,
)

_UNSAFE_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")
_MOVED = re.compile(r"is at [0-9a-f]{40} but expected|reference already exists|incorrect old value", re.I)
_LOCK_FILE = re.compile(r"Unable to create '[^'\n]+\.lock': File exists", re.I)
#: Lines with which git says of any trouble on the way that there was one; ssh's own words come before them.
_EMPTY_WORDS = (
    "",
    "fatal: Could not read from remote repository.",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
)
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
        r"dubious ownership",
        LedgerUnauthorised,
        "It belongs to another user. Run `git config --global --add safe.directory {address}` as this user.",
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


class GitRemote:
    """One address, with git's environment for it. `timeout` bounds each git command, in seconds."""

    def __init__(self, address: str, timeout: float) -> None:
        """`address` has no credentials afterwards: git gets them as `credentials` says, and no command line.

        Raises LedgerError for an option in disguise, UsageError for credentials with a control character.
        """
        if address.startswith("-"):
            raise LedgerError(f"{address!r} cannot be the address of a repository.")
        access = split_url(address)
        self.address = access.address
        self.timeout = timeout
        self.leash = Leash()
        self.env = environment(self.address) | credential_variables(access)
        if settings := credential_settings(access):
            self.env |= config_variables(settings, self.env)
        self.here: Path | None = None  # known after `insist_on_one_address`
        self._asked = False

    def __str__(self) -> str:
        return f"The ledger's remote {masked(self.address)}"

    def git(self, folder: Path, words: list[str], *, input: bytes = b"", check: bool = True) -> Finished:
        """Runs a git command in a local repository. Raises CommandFailed if `check`, CommandTimedOut."""
        return run(
            ["git", "--git-dir", folder, *words], env=self.env, input=input, timeout=self.timeout, check=check
        )

    def talk(self, folder: Path, words: list[str]) -> Finished:
        """Runs a git command that talks to the remote, on the leash. Raises CommandTimedOut."""
        argv = ["git", "--git-dir", str(folder), *words]
        return run(argv, env=self.env, timeout=self.timeout, check=False, leash=self.leash)

    def ask(self, folder: Path, words: list[str]) -> Finished:
        """Runs a git command that reads from the remote. Raises the LedgerError that git's words mean."""
        try:
            done = self.talk(folder, words)
        except CommandTimedOut as exc:
            raise self.no_answer(exc) from exc
        if done.returncode != 0 and "couldn't find remote ref" not in done.errors:
            raise self.meaning(done)
        return done

    def receive(self, place: Path, request: bytes) -> Finished:
        """Hands a push in git's own protocol to a repository of this machine. Raises CommandTimedOut."""
        return run(
            ["git", "receive-pack", place],
            env=self.env,
            input=request,
            timeout=self.timeout,
            check=False,
            leash=self.leash,
        )

    def no_answer(self, timed_out: CommandTimedOut) -> LedgerUnreachable:
        """Returns what a command that took too long means."""
        return LedgerUnreachable(f"{self} gave no answer: {timed_out.message}")

    def meaning(self, done: Finished, status: str = "") -> LedgerError:
        """Returns git's words as an error. `status` is the remote's own verdict on a ref, if there is one."""
        said = masked(f"{status}\n{done.errors}")
        lines = [line for line in said.splitlines() if line.strip() not in _EMPTY_WORDS]
        # Git explains itself in several lines; the first that calls itself fatal says what happened.
        last = next((line for line in lines if line.startswith("fatal: ")), lines[-1] if lines else "")
        for pattern, error, remedy in _RULES:
            if re.search(pattern, said, re.I):
                file = _LOCK_FILE.search(said)
                words = file[0] if file and error is LedgerRefLocked else last.strip()
                remedy = remedy.format(address=masked(self.address))
                return error(f"{self} refused: {words}", remedy=remedy)
        if status:
            return LedgerRefused(f"{self} refused: {status.split(chr(9))[-1]}", remedy=_RULES[-1][2])
        return LedgerUnreachable(
            f"{self} does not answer: {last.strip()}", remedy="Check the address and the connection."
        )

    def insist_on_one_address(self, folder: Path) -> None:
        """Refuses a remote that is read in one place and written in another. Asked once, before a push.

        Afterwards `here` is the place of a remote that is a path on this machine.
        """
        if self._asked:
            return
        rules = r"^(url\..*\.(push)?insteadof|remote\..*\.pushurl)$"
        written, rewritten = [], False
        for line in self.git(folder, ["config", "--get-regexp", rules], check=False).text.splitlines():
            key, _, to = line.partition(" ")
            name, _, kind = key.partition(".")[2].rpartition(".")
            if kind == "pushinsteadof" and self.address.startswith(to):
                written.append(name + self.address[len(to) :])
            elif kind == "pushurl" and name == self.address:
                written.append(to)
            rewritten = rewritten or (kind == "insteadof" and self.address.startswith(to))
        if written and {self.git(folder, ["ls-remote", "--get-url", self.address]).text} != set(written):
            raise LedgerError(
                f"{self} is read from there, but git pushes to {masked(written[-1])}.",
                remedy="Remove `pushInsteadOf` or `pushurl` for this address from git's configuration.",
            )
        self._asked = True
        plain = self.address.removeprefix("file://")
        if plain.startswith("/") and "%" not in plain and not written and not rewritten:
            self.here = Path(plain)


def moved(said: str) -> bool:
    """Says whether a refusal means that the ref was elsewhere.

    A newer git (2.55 does) calls a ref whose lock is held by somebody `reference already exists` as well.
    """
    return _MOVED.search(said) is not None and not _LOCK_FILE.search(said)


def environment(remote: str = "/") -> dict[str, str]:
    """Returns git's environment: no prompts, messages in English, SSH connections shared by themselves."""
    env = {key: value for key, value in os.environ.items() if key not in _UNSAFE_VARIABLES}
    env.update(GIT_TERMINAL_PROMPT="0", LC_ALL="C", GIT_OPTIONAL_LOCKS="0")
    ssh = remote.startswith("ssh://") or ("://" not in remote and ":" in remote.partition("/")[0])
    if not ssh or "GIT_SSH" in env:
        return env
    sockets = _sockets()
    own = run(["git", "config", "core.sshCommand"], env=env, check=False).text
    command = env.get("GIT_SSH_COMMAND") or own or "ssh"
    shared = f" -o ControlMaster=auto -o ControlPath={sockets}/%C -o ControlPersist=60" if sockets else ""
    env["GIT_SSH_COMMAND"] = (
        f"{command}{shared} -o BatchMode=yes -o ConnectTimeout=10"
        " -o ServerAliveInterval=5 -o ServerAliveCountMax=3"
    )
    return env


def _sockets() -> Path | None:
    """Returns a folder of this user's alone for ssh's sockets; None where none is to be had.

    A name in it takes 58 bytes, and a socket's path 107 at the most. Neither git nor ssh would take a space.
    """
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp"):
        folder = Path(parent or "/nonexistent") / f"pipeline-{os.getuid()}"
        if len(os.fsencode(folder)) > 49 or re.search(r"[^\w/.+-]", str(folder)):
            continue
        try:
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            found = folder.lstat()
        except OSError:  # that folder is another user's, or was never made
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return folder
    return None
