"""Runs the git commands that builds need: no prompt, no hook, no secret shown.

Two environments. *Remote* commands keep the user's and the system's configuration, which is where credential
helpers, SSH keys and certificates are found; *local* ones ignore it, so that a checkout is the same whoever
makes it.
Credentials in an address go to git as `credentials` says.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.edge.credentials import (
    Access,
    config_variables,
    credential_settings,
    credential_variables,
    masked,
)
from pipeline.edge.process import Finished, run
from pipeline.edge.supervisor import Supervised
from pipeline.errors import BuildFailed, CommandFailed, SourceError

_TAIL_BYTES = 64 * 1024
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.autocrlf": "false",
    "core.fsync": "all",
    # A small fetch would be unpacked file by file; killed, it would leave a commit without its trees.
    "fetch.unpackLimit": "1",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
    "advice.detachedHead": "false",
}

#: What git says of a repository that lacks objects: a partial clone, a copy that was cut. A connection that
#: breaks off leaves an invalid pack as well, but says nothing of these.
DAMAGED = (
    r"unable to read [0-9a-f]{40}|did not send all necessary|bad object|missing (?:blob|tree|commit)"
    r"|unresolved deltas|is corrupt|repository corruption"
)
#: Lines that say no more than those before them.
_EMPTY_WORDS = ("fatal: Could not read from remote repository.",)

_FULL = r"No space left on device|Disk quota exceeded"

#: What git says, and what it means: (pattern, message, remedy). The first that matches counts.
_MEANINGS = (
    (
        r"dubious ownership",
        "belongs to another user, and git refuses it",
        "Run `git config --global --add safe.directory {place}` as the user who builds.",
    ),
    (
        r"could not read Username|could not read Password|Authentication failed|terminal prompts disabled"
        r"|Permission denied \(|HTTP Basic: Access denied|returned error: 40[13]|Invalid username or",
        "asks for credentials, or does not exist",
        "Check the address; give the user who builds an SSH key or a git credential helper for it.",
    ),
    (
        DAMAGED,
        "lacks objects of its own history",
        "Repair it, or build from a complete clone.",
    ),
    (
        r"Host key for .* has changed|HOST IDENTIFICATION HAS CHANGED",
        "has another SSH host key than before",
        "It was set up anew, or somebody stands in between: ask who runs it. Then forget the old key"
        " (`ssh-keygen -R {host}`) and add the new one.",
    ),
    (
        r"Host key verification failed|No .*host key is known",
        "has an SSH host key that this machine does not know",
        "Check the key's fingerprint and add it to ~/.ssh/known_hosts (`ssh-keyscan {scan}`).",
    ),
    (
        r"ssh: (?:\d+: )?(?:command )?not found|cannot (?:run|exec) \S*ssh",
        "cannot be reached without SSH, which is not installed",
        "Install openssh-client (`invoke doctor --install`).",
    ),
    (
        r"certificate (?:problem|verif|subject name)|SSL certificate|self.signed certificate",
        "has a certificate that this machine does not trust",
        "Add its authority to the system's (`update-ca-certificates`), or name its file in $GIT_SSL_CAINFO"
        " or git's `http.sslCAInfo`.",
    ),
    (
        r"not appear to be a git repository|not a git repository|[Rr]epository.*not found|does not exist"
        r"|No such file or directory|returned error: 404",
        "is not a git repository",
        "Check the address: `git ls-remote {place}` has to list branches.",
    ),
    (
        r"early EOF|unexpected disconnect|bad pack header|invalid index-pack|closed by remote host",
        "broke off in the middle",
        "Run the same command again; if it happens each time, look at the network.",
    ),
    (
        r"Could not resolve|Connection (?:refused|reset)|[Cc]onnection timed out|No route to host"
        r"|Network is unreachable|unable to access|hung up|Operation (?:timed out|too slow)"
        r"|gave no answer|not responding|Connection closed by",
        "cannot be reached",
        "Check the network and the address, then run the same command again.",
    ),
    (
        r"transport '.*' not allowed|remote helper|unknown.*protocol",
        "has an address of a kind that is not allowed",
        "Use a path, or an https://, ssh:// or git:// address.",
    ),
    (
        _FULL,
        "cannot be copied: the disk is full",
        "Free disk space.",
    ),
)


#: What tells a remote command who asks, and how the host is reached.
_OF_THE_USER = (
    *("HOME", "USER", "SUDO_UID", "SSH_AUTH_SOCK", "XDG_CONFIG_HOME", "TMPDIR"),
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_SSH", "GIT_SSH_VARIANT"),
    *("GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)
#: No question is asked, and a host that has fallen silent is given up after a minute.
_SSH_OPTIONS = "-o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"


def environment(access: Access | None = None, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns git's whole environment: remote when `access` is given, else local. `extra` are settings."""
    settings = {**_SETTINGS, **(extra or {})}
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    env |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "GIT_LFS_SKIP_SMUDGE": "1"}
    if access is None:
        env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "HOME": "/nonexistent"}
    else:
        env |= {name: os.environ[name] for name in _OF_THE_USER if name in os.environ}
        if "GIT_SSH" not in env:
            env["GIT_SSH_COMMAND"] = f"{_ssh_command(access, env)} {_SSH_OPTIONS}"
        # `ext::` and its like run programs.
        env["GIT_ALLOW_PROTOCOL"] = "http:https:ssh:git" + (":file" if access.is_local else "")
    pairs = list(settings.items())
    if access is not None:
        pairs += credential_settings(access)
        env |= credential_variables(access)
    return env | config_variables(pairs)


def _ssh_command(access: Access, env: Mapping[str, str]) -> str:
    """Returns the ssh that the user has chosen for git, as git itself would find it."""
    chosen = os.environ.get("GIT_SSH_COMMAND")
    if chosen or not access.is_ssh:
        return chosen or "ssh"
    return run(["git", "config", "core.sshCommand"], env=env, check=False).text or "ssh"


def git(
    *words: str,
    cwd: Path | None = None,
    access: Access | None = None,
    settings: Mapping[str, str] | None = None,
    input: bytes = b"",
    timeout: float = 120.0,
    check: bool = True,
    cancelled: Callable[[], str | None] | None = None,
    umask: int = -1,
) -> Finished:
    """Runs one short git command. Raises CommandFailed, CommandTimedOut, BuildFailed (cancelled)."""
    env = environment(access, settings)
    if cancelled is None:
        return run(["git", *words], cwd=cwd, env=env, input=input, timeout=timeout, check=check, umask=umask)
    reasons: list[str] = []

    def stop() -> bool:
        reason = cancelled()
        reasons.extend([reason] if reason else [])
        return reason is not None

    try:
        done = run(
            ["git", *words],
            cwd=cwd,
            env=env,
            input=input,
            timeout=timeout,
            check=check,
            stop=stop,
            umask=umask,
        )
    except CommandFailed:
        if not reasons:
            raise
    if reasons:
        raise cancelled_at(words[0], reasons[0])
    return done


def git_long(
    *words: str,
    cwd: Path,
    access: Access | None = None,
    settings: Mapping[str, str] | None = None,
    timeout: float = 3600.0,
    cancelled: Callable[[], str | None] = lambda: None,
) -> None:
    """Runs a git command that may take long, supervised: it ends with the pipeline, and can be cancelled.

    Raises CommandFailed with the last of what it said, BuildFailed (cancelled).
    """
    tail = bytearray()

    def keep(data: bytes) -> None:
        tail.extend(data)
        del tail[:-_TAIL_BYTES]

    with Supervised(
        ["git", *words],
        cwd=cwd,
        env=environment(access, settings),
        marker=f"source.{os.getpid()}",
        deadline_seconds=timeout,
    ) as tree:
        ended = tree.run(keep, poll=lambda elapsed: cancelled())
    if ended.exit_status == 0:
        return
    said = masked(tail.decode(errors="replace")).strip()
    if ended.reason == "timeout":
        raise CommandFailed(f"`git {words[0]}` gave no answer within {timeout:g} s", stderr_tail=said)
    if ended.reason is not None:
        raise cancelled_at(words[0], ended.reason)
    status = ended.exit_status if ended.exit_status is not None else -(ended.killed_by or 0)
    last = said.splitlines()[-1] if said else ""
    raise CommandFailed(
        f"`git {words[0]}` ended with status {status}: {last}", returncode=status, stderr_tail=said
    )


def cancelled_at(step: str, reason: str) -> BuildFailed:
    """Returns what ends a build that was cancelled during a step of git's."""
    return BuildFailed(f"Cancelled during `git {step}`: {reason}.", failure_class="cancelled")


def source_error(access: Access, failed: CommandFailed) -> SourceError:
    """Says what a failed git command means for the source, without its credentials."""
    said = masked(f"{failed.stderr_tail}\n{failed.message}")
    place, (host, port) = access.address, access.ssh_host()
    words = {
        "place": shlex.quote(place),
        "host": shlex.quote(f"[{host}]:{port}" if port else host),
        "scan": shlex.join([*(["-p", port] if port else []), host]),
    }
    for pattern, message, remedy in _MEANINGS:
        found = re.search(pattern, said)
        if found:
            return SourceError(
                f"The source {place} {message}: {_last_words(said, found[0])}",
                failure_class="disk" if pattern == _FULL else "source",
                remedy=remedy.format(**words),
            )
    return SourceError(f"The source {place} cannot be used: {_last_words(said)}")


def _last_words(said: str, telling: str = "") -> str:
    """Returns one line: what is wrong, and not only that something is."""
    lines: Sequence[str] = [
        line.strip() for line in said.splitlines() if line.strip() not in ("", *_EMPTY_WORDS)
    ]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "ssh:"))]
    known = [line for line in lines if telling and telling in line]
    return (fatal or known or lines or ["git said nothing"])[0][:300]
