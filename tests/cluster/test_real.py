"""The real cluster: real processes, git and disks under faults, its whole chain checked afterwards.

Each run is a process of its own, `python -m tests.cluster`: it forks, mounts, and takes in orphans.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.edge.procfs import all_stats, environment_of
from tests.cluster import between
from tests.cluster.__main__ import Total, arguments, failed, plan_of, report
from tests.cluster.board import KILL, STEPS, Board
from tests.cluster.faults import REAL, STRIKES
from tests.cluster.mutants import MUTANTS
from tests.cluster.run import Plan, Result
from tests.cluster.tiny import ROOT
from tests.simulation.faults import FAULTS
from tests.sshd import sshd_program

#: Words of a run that fits a size, and how many seconds pytest gives it.
SIZES = {
    "small": (("--seeds", "1", "--seconds", "6", "--writers", "3", "--kills", "5"), 110),
    "medium": (("--seeds", "2", "--seconds", "30", "--writers", "5"), 400),
    "large": (("--seeds", "20", "--seconds", "60", "--nodes", "3"), 7200),
}


#: Longer than a lease and its takeover, and seldom enough that somebody is there to take it over.
LONG_STOPS = ("--stopped", "16", "--trouble", "4")


def cluster(folder: Path, *words: str, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
    """Runs the real cluster as its own command, in a folder for its files."""
    return subprocess.run(
        [sys.executable, "-m", "tests.cluster", *words],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def short() -> object:
    """A folder with a short path: sockets of SSH lie in it."""
    folder = Path(f"/tmp/real-{os.getpid()}")
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def counted(done: subprocess.CompletedProcess[str], what: str) -> int:
    """Returns a count that the report shows before a word."""
    words = done.stdout.replace(",", " ").split()
    return int(words[words.index(what) - 1])


@pytest.mark.timeout(7400)
def test_every_invariant_holds_under_faults(short: Path, size: str) -> None:
    """A run with all faults on ends in a chain and in answers that keep every promise, and leaves nothing."""
    words, seconds = SIZES[size]
    done = cluster(short, *words, "--first", "1", seconds=seconds)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: every invariant held" in done.stdout
    assert counted(done, "kills") > 0
    assert counted(done, "transactions") >= counted(done, "commits") > 0
    assert not list(short.iterdir())
    mark = f"PIPELINE_HOME={short}".encode()
    assert not [s for s in all_stats().values() if mark in environment_of(s.pid)]


@pytest.mark.skipif(sshd_program() is None, reason="sshd is not installed: apt-get install openssh-server")
@pytest.mark.timeout(600)
def test_every_invariant_holds_over_ssh(short: Path, size: str) -> None:
    """The same over a real sshd, with the line cut and slowed on the client's side."""
    if size == "small":
        pytest.skip("the medium size runs it")
    words = ("--seeds", "1", "--seconds", "20", "--writers", "3", "--ssh", "--kills", "3")
    done = cluster(short, *words, seconds=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert counted(done, "transactions") > 0


@pytest.mark.parametrize(
    ("mutant", "words"),
    [
        ("tells-ok", ("--fault", "kill", "--seconds", "10", "--kills", "1")),
        ("cleared-early", ("--fault", "leader-killed", "--seconds", "8", "--kills", "4")),
        ("works-on", ("--fault", "stop", "--seconds", "40", "--kills", "0", "--writers", "0", *LONG_STOPS)),
    ],
)
@pytest.mark.timeout(600)
def test_planted_bug_is_noticed_by_its_invariant(
    short: Path, size: str, mutant: str, words: tuple[str, ...]
) -> None:
    """The checker can fail: a bug in the workers is named by the invariant that it breaks."""
    if size == "small" and mutant != "cleared-early":
        pytest.skip("the medium size runs it")
    base = ("--seeds", "6", "--stop-at-failure", "--writers", "3", "--no-speed", "--mutant", mutant)
    done = cluster(short, *base, *words, seconds=550)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"VIOLATED {MUTANTS[mutant][1]}: " in done.stdout, done.stdout


# ---------------------------------------------------------------- the parts


def test_the_vocabulary_is_shared() -> None:
    """What the registry says both layers or the real one have is struck here, and nothing else.

    Nothing loses a server's power here, and the product has no push of two refs between which it could die.
    """
    said = {name for name, fault in FAULTS.items() if fault.layers in ("both", "real")}
    assert said - {"server-power-loss", "server-between-refs"} == set(REAL) == set(STRIKES)


def test_a_fault_that_never_hits_fails_a_long_run() -> None:
    """A fault that was on and struck nothing is a failure, once there were enough transactions."""
    total = Total()
    result = Result(Plan(1), transactions=19_000)
    result.hits["kill", "push"] = 1
    total.add(result)
    assert not failed(total, ("kill", "gc"))
    total.add(result)
    assert failed(total, ("kill", "gc"))
    assert "NEVER HIT: gc" in report(total, ("kill", "gc"))
    assert not failed(total, ("kill",))


def test_a_seed_gives_the_same_plan() -> None:
    """What is drawn depends on the seed and the command line alone."""
    options = arguments(["--fault", "kill", "--nodes", "3"])
    assert plan_of(7, options) == plan_of(7, arguments(["--fault", "kill", "--nodes", "3"]))
    assert plan_of(7, options).faults == ("kill",)


def test_an_order_strikes_at_its_step_and_no_other() -> None:
    """A worker that is told to die at a step dies there, and the board says where."""
    board = Board(2, 1)
    board.order(1, KILL, "push", 2)
    pid = os.fork()
    if pid == 0:
        try:
            for step in ("look", "push", "pushed", "push", "settle"):
                board.step(1, step)
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == 9
    assert (board.at(1), board.struck(1), board.struck(1)) == ("push", "push", None)
    assert board.at(0) == STEPS[0]


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path, dict[str, str]]:
    """A machine's folder with its `git`, a bare repository, and the environment of the machine."""
    folder, bare = tmp_path / "n1", tmp_path / "remote.git"
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    between.install(folder)
    return folder, bare, {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}


def test_the_line_loses_requests_and_answers(machine: tuple[Path, Path, dict[str, str]]) -> None:
    """A lost request changes nothing, a lost answer is of a push that was applied; both look alike."""
    folder, bare, env = machine
    clone = folder / "clone"
    subprocess.run(["git", "init", "--quiet", str(clone)], check=True)
    words = [
        "git",
        "-c",
        "user.name=x",
        "-c",
        "user.email=x@x.invalid",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
    ]
    subprocess.run([*words, "one"], cwd=clone, check=True)

    def push() -> int:
        done = subprocess.run(["git", "push", "-q", str(bare), "HEAD:refs/heads/x"], cwd=clone, env=env)
        return done.returncode

    def there() -> bool:
        return (bare / "refs/heads/x").exists()

    between.put(folder, "request-lost")
    assert (push(), there()) == (128, False)
    between.put(folder, "reply-lost")
    assert (push(), there()) == (128, True)
    between.remove(folder)
    assert push() == 0
    assert between.hits(folder) == [("request-lost", "push"), ("reply-lost", "push")]
