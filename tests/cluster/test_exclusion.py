"""Two hosts exclude each other on an outside lock: real processes, stores of their own, a real sshd."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipeline.coordination.reducer import REDUCER_VERSION, genesis
from pipeline.edge.bare import make_bare
from pipeline.edge.clock import SystemClock
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.identity import SystemRandomness
from pipeline.ledger.genesis import initialise
from pipeline.records.base import dump
from pipeline.records.builders import Builder
from pipeline.records.builds import BuildConfig
from pipeline.records.locks import Token
from tests.sshd import Sshd

ROUNDS = {"small": 10, "medium": 100, "large": 1000}


def test_two_hosts_never_hold_a_lock_together(tmp_path: Path, sshd: Sshd, size: str) -> None:
    """No overlap in any round of either host, no token twice, tokens strictly increasing."""
    rounds = ROUNDS[size]
    bare = tmp_path / "ledger.git"
    make_bare(bare)
    builders = [Builder(name="build1"), Builder(name="build2")]
    files = genesis(builders, dump(BuildConfig()), SystemClock().now())
    initialise(
        GitRefs(tmp_path / "init.git", str(bare)),
        files,
        "build1",
        SystemClock(),
        SystemRandomness(),
        REDUCER_VERSION,
    )
    journal = tmp_path / "outside"
    contenders = [contend(tmp_path, sshd, bare, builder, rounds, journal) for builder in ("build1", "build2")]
    try:
        for contender in contenders:
            _, errors = contender.communicate(timeout=60 + rounds * 20)
            assert contender.returncode == 0, errors
    finally:
        for contender in contenders:
            contender.kill()
            contender.wait()
    lines = [line.split(" ") for line in journal.read_text().splitlines()]
    assert len(lines) == 2 * 2 * rounds
    for entering, leaving in zip(lines[::2], lines[1::2], strict=True):
        assert (entering[0], leaving[0]) == ("enter", "leave")
        assert entering[1:] == leaving[1:]
    tokens = [Token.parse(line[1]) for line in lines[::2]]
    assert len({*tokens}) == 2 * rounds
    assert tokens == sorted(tokens)


def contend(
    folder: Path, sshd: Sshd, bare: Path, builder: str, rounds: int, journal: Path
) -> subprocess.Popen[str]:
    """Starts a contender on a host of its own: another home, and so another store."""
    environment = {
        **os.environ,
        "PIPELINE_HOME": str(folder / builder),
        "PIPELINE_LEDGER": sshd.url(bare),
        "PIPELINE_BUILDER": builder,
        "GIT_SSH_COMMAND": sshd.ssh_command(),
    }
    words = [sys.executable, "-m", "tests.cluster.contender", str(rounds), "30", str(journal)]
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
