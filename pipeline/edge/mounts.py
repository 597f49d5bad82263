"""Whether this machine lets a build have mounts of its own: tried once, and known until something changes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pipeline.edge.findings import Findings
from pipeline.edge.process import run
from pipeline.edge.procfs import boot_id
from pipeline.edge.supervisor import ROOT, START

#: Below /proc: what an administrator says about namespaces.
_DECIDE = (
    "self/attr/current",
    "sys/kernel/unprivileged_userns_clone",
    "sys/kernel/apparmor_restrict_unprivileged_userns",
    "sys/user/max_user_namespaces",
    "sys/user/max_mnt_namespaces",
)


def probe_mounts(
    source: str,
    target: str,
    findings: Findings | None = None,
    *,
    apart: tuple[str, int] | None = None,
) -> str | None:
    """Returns why `source` cannot be mounted on `target` in a namespace, or None when it can.

    With `apart`, also why a process cannot have that host name and that user's number. That it can is kept in
    `findings`.
    """
    why: list[str] = []

    def possible() -> bool | None:
        words = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            START,
            ROOT,
            "--probe",
            source,
            target,
            *map(str, apart or ()),
        ]
        tried = run(words, env={"LC_ALL": "C.UTF-8"}, check=False, timeout=30)
        why.append(tried.errors or f"status {tried.returncode}")
        return tried.returncode == 0 or None

    facts, name = _mount_facts(source, target), "apart" if apart else "mounts"
    return None if (findings or Findings()).of(name, facts, possible) else why[0]


def _mount_facts(source: str, target: str) -> list[Any] | None:
    """Returns what decides whether this process may mount: who it is, where, and what the kernel is told."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        places = [[str(path), path.stat().st_dev, path.stat().st_ino] for path in map(Path, (source, target))]
        spaces = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("mnt", "user", "pid")]
    except OSError:
        return None
    rights = [line for line in status if line.startswith(("Uid:", "Gid:", "Cap", "NoNewPrivs:", "Seccomp"))]
    told = [_line_of(f"/proc/{name}") for name in _DECIDE]
    return [boot_id(), places, spaces, rights, told]


def _line_of(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
