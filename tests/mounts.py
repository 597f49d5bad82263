"""Small file systems for tests, mounted in a namespace of their own: they end with the process."""

from __future__ import annotations

import os
import subprocess

import pytest


def may_mount() -> bool:
    """Says whether this process may make a mount namespace and mount in it."""
    if os.geteuid() != 0:
        return False
    words = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"]
    return subprocess.run(words, capture_output=True).returncode == 0


needs_mounts = pytest.mark.skipif(not may_mount(), reason="needs root, to mount a small file system")
