"""Facts about the disk: whose file system it is, that a file is whole, that a folder is written."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from threading import get_ident

#: File systems on which locks or fsync of one machine are not seen by another.
_NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "gluster", "lustre", "fuse.sshfs", "fuse.gluster")


def network_filesystem(folder: Path, mounts: str | None = None) -> str | None:
    """Returns the kind of network file system that a folder lies on, or None for a local one.

    `mounts` is the text of /proc/self/mountinfo, whose third field is the device of a file's `st_dev` and
    whose kind stands behind the dash (proc(5)).
    """
    device = folder.stat().st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    try:
        text = Path("/proc/self/mountinfo").read_text(errors="replace") if mounts is None else mounts
    except OSError:
        return None
    for line in text.splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split(" ")[2:3] == [name]:
            kind = source.split(" ")[0]
            return kind if kind.startswith(_NETWORK) else None
    return None


def flush_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power loss."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(place: Path, data: bytes) -> None:
    """Writes a file that is there whole or as it was before, to whoever looks; not durable.

    Raises OSError, and leaves nothing behind then.
    """
    temporary = place.with_name(f"{place.name}.{os.getpid()}.{get_ident()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(place)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
