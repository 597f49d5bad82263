"""Two hosts exclude each other on an outside lock: real processes, stores of their own, a real sshd."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

from pipeline.coordination.adoption import adopt
from pipeline.coordination.reducer import REDUCER_VERSION, decide
from pipeline.edge.git_refs import GitRefs
from pipeline.ledger.check import check_chain
from pipeline.operations.history import validate
from pipeline.records.locks import Token
from tests.cluster.holders import make_ledger
from tests.cluster.tiny import wait_until
from tests.sshd import Sshd

ROUNDS = {"small": 10, "medium": 100, "large": 1000}


def test_two_hosts_never_hold_a_lock_together(tmp_path: Path, sshd: Sshd, size: str) -> None:
    """No overlap in any round of either, no token twice, tokens strictly increasing, and a sound chain."""
    rounds = ROUNDS[size]
    bare = make_ledger(tmp_path, ["build1", "build2"])
    journal = tmp_path / "outside"
    contenders = [contend(tmp_path, sshd, bare, builder, rounds, journal) for builder in ("build1", "build2")]
    try:
        ready = [Path(f"{journal}.{builder}") for builder in ("build1", "build2")]
        assert wait_until(lambda: all(each.exists() for each in ready))
        begun = time.monotonic()
        Path(f"{journal}.go").touch()
        for contender in contenders:
            _, errors = contender.communicate(timeout=60 + rounds * 20)
            assert contender.returncode == 0, errors
        seconds = time.monotonic() - begun
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
    holders = [line[2] for line in lines[::2]]
    handed_over = sum(one != two for one, two in itertools.pairwise(holders))
    assert handed_over >= rounds // 10, "they did not contend"
    commits = assert_sound(tmp_path, bare)
    print(f"\n{2 * rounds} rounds in {seconds:.1f} s, {2 * rounds / seconds:.2f} a second;", end=" ")
    print(f"{handed_over} times from one host to the other; {commits} commits, all computed again")


def assert_sound(folder: Path, bare: Path) -> int:
    """Computes every commit of a ledger again, and returns how many there are."""
    refs = GitRefs(folder / "look.git", str(bare))
    tip = refs.fetch()
    assert tip is not None
    checked, findings = check_chain(refs, tip, decide, adopt, REDUCER_VERSION, validate)
    assert [each.problem for each in findings] == []
    return checked


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
