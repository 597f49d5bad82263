"""Installs packages where nothing of this machine is touched: in a copy of its root that is gone afterwards.

The copy is an overlay in namespaces of its own (mounts, processes, network, host name, IPC), so real dpkg
runs the real maintainer scripts as root, without a network, and without what leads out: those capabilities
are dropped. A service that a script starts is refused; whatever it leaves running ends with the namespace.

Non-guarantee: that it works on the users' machines. The copy has what this machine has, at its versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.edge.process import run
from pipeline.errors import CommandFailed, CommandTimedOut, InstallFailed

_SECONDS = 900.0
#: What the script ends with where the machine does not permit a root of its own.
_NOT_HERE = 97
#: What would lead out of the copy, or change the machine beneath it.
_DROPPED = (
    *(
        "sys_admin",
        "sys_module",
        "sys_rawio",
        "sys_boot",
        "sys_time",
        "sys_ptrace",
        "sys_chroot",
        "sys_resource",
    ),
    *("sys_pacct", "syslog", "mknod", "net_admin", "net_raw", "dac_read_search", "linux_immutable"),
    *("audit_control", "mac_admin", "mac_override", "bpf", "perfmon"),
)

# $1 is an empty folder, $2 where the packages lie, and the packages' names follow. Everything is mounted in a
# namespace of its own, so nothing has to be unmounted.
_SCRIPT = """
scratch=$1 packages=$2; shift 2
prepare() {
    mount -t tmpfs -o mode=0755 scratch "$scratch" &&
    mkdir "$scratch/upper" "$scratch/work" "$scratch/root" &&
    mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root" &&
    mount -t proc proc "$scratch/root/proc" &&
    mkdir -p "$scratch/root/packages" "$scratch/root/usr/sbin" "$scratch/root/dev" "$scratch/root/tmp" &&
    mount --bind "$packages" "$scratch/root/packages" &&
    mount -o remount,bind,ro "$scratch/root/packages" &&
    mount -t tmpfs tmp "$scratch/root/tmp" && chmod 1777 "$scratch/root/tmp" &&
    { [ -c "$scratch/root/dev/null" ] || mount --bind /dev "$scratch/root/dev"; } &&
    printf '#!/bin/sh\\nexit 101\\n' > "$scratch/root/usr/sbin/policy-rc.d" &&
    chmod 755 "$scratch/root/usr/sbin/policy-rc.d"
}
prepare || exit 97
cd "$scratch/root/packages"
exec chroot "$scratch/root" setpriv --bounding-set "$DROPPED" --no-new-privs sh -c '
    cd /packages
    dpkg --force-depends --force-confnew --install "$@" || exit 1
    for each; do
        name=$(dpkg-deb -f "$each" Package) || exit 1
        state=$(dpkg-query -W -f "\\${Status}" "$name") || exit 1
        [ "$state" = "install ok installed" ] || { echo "$name is: $state" >&2; exit 1; }
    done
    for each; do names="$names $(dpkg-deb -f "$each" Package)"; done
    dpkg --force-depends --purge $names || exit 1
' sh "$@"
"""


def install_packages(folder: Path) -> list[str]:
    """Installs, and purges again, all packages below a folder in a scratch root; returns their names.

    Raises InstallFailed: `install` with dpkg's last words, `not-here` where this machine permits no root of
    its own, `empty` where there is no package.
    """
    names = sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*.deb"))
    if not names:
        raise InstallFailed(f"`{folder}` holds no package that could be installed.", reason="empty")
    with TemporaryDirectory(prefix="pipeline-install-") as scratch:
        try:
            done = run(_argv(scratch, folder, names), env=_environment(), timeout=_SECONDS, check=False)
        except CommandTimedOut as exc:
            raise InstallFailed(f"Installing took longer than {_SECONDS:g} s.", reason="install") from exc
        except CommandFailed as exc:
            raise InstallFailed(exc.message, reason="not-here", remedy=exc.remedy) from exc
    if done.returncode == _NOT_HERE or done.errors.startswith(("unshare:", "setpriv:")):
        raise InstallFailed(
            f"This machine permits no root of its own, so nothing was installed: {_last(done.errors)}",
            reason="not-here",
            remedy="Promote where root may mount an overlay, or take `install` out of the policy.",
        )
    if done.returncode != 0:
        raise InstallFailed(
            f"The packages cannot be installed: {_last(done.errors)}",
            reason="install",
            remedy="All of dpkg's words: `dpkg --install` on a machine that may be spoiled.",
        )
    return names


def _argv(scratch: str, folder: Path, names: Sequence[str]) -> list[str]:
    spaces = ["--mount", "--pid", "--net", "--uts", "--ipc", "--propagation", "private"]
    return [
        *("unshare", *spaces, "--fork", "--kill-child", "--"),
        *("sh", "-uc", _SCRIPT, "sh", scratch, str(folder), *names),
    ]


def _environment() -> dict[str, str]:
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C",
        "DEBIAN_FRONTEND": "noninteractive",
        "DROPPED": ",".join(f"-{each}" for each in _DROPPED),
    }


def _last(errors: str) -> str:
    lines = [line for line in errors.splitlines() if line.strip()]
    return " / ".join(lines[-4:]) or "it said nothing"
