"""The few calls that Python has no name for: orphans, parent death, mounts. Standard library only."""

# pathlib takes longer to import than the whole watchdog takes to start:
# ruff: noqa: PTH123

from __future__ import annotations

import ctypes
import errno
import os
import signal

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 1, 36, 37
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWUSER = 0x00020000, 0x04000000, 0x10000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


def set_subreaper(enabled: bool) -> bool:
    """Makes orphans of this process's descendants its own children, or stops that. Returns what was set."""
    before = ctypes.c_int(0)
    _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, int(enabled), 0, 0, 0), "prctl")
    return bool(before.value)


def die_with_parent() -> None:
    """Has the kernel kill the calling process when the thread that forked it ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl")


def enter_mounts(mounts: list[list[str]], host: str | None = None, user: int | None = None) -> None:
    """Gives the calling process a mount namespace of its own and binds each (source, target) in it.

    With `host` it also has that host name, and the machine keeps its own. As root directly, else through a
    user namespace in which the user stays the same; with `user` always, and it has that number in there.
    Raises OSError where the machine allows neither.
    """
    own = _CLONE_NEWNS if host is None else _CLONE_NEWNS | _CLONE_NEWUTS
    if user is not None:
        _enter_users(own, user, user)
    else:
        try:
            _check(_libc.unshare(own), "a mount namespace")
        except OSError as exc:
            if exc.errno != errno.EPERM:
                raise
            _enter_users(own, os.geteuid(), os.getegid())
    # Private first: a mount that is shared would appear on the host.
    try:
        _mount("none", "/", _MS_REC | _MS_PRIVATE)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        raise OSError(exc.errno, "it is no mount point (a chroot?)", "/") from exc
    for source, target in mounts:
        _mount(source, target, _MS_BIND | _MS_REC)
    if host is not None:
        data = os.fsencode(host)
        _check(_libc.sethostname(data, len(data)), "the host name")


def _enter_users(others: int, user: int, group: int) -> None:
    """Enters a user namespace, and others with it, in which the caller has these numbers."""
    own = os.geteuid(), os.getegid()
    _check(_libc.unshare(_CLONE_NEWUSER | others), "a user namespace")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {own[0]} 1"),
        ("gid_map", f"{group} {own[1]} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _mount(source: str, target: str, flags: int) -> None:
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None), target)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)


def sync_filesystem(path: os.PathLike[str] | str) -> None:
    """Writes out all that is pending on the file system of `path`; where the call is missing, everywhere."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            os.sync()
    finally:
        os.close(descriptor)
