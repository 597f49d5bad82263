"""The real cluster: real processes, git and disks under faults, its whole chain checked afterwards.

Each run is a process of its own, `python -m tests.cluster`: it forks, mounts, and takes in orphans.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.edge.git_objects import Commit, Object, make
from pipeline.edge.procfs import all_stats, environment_of
from tests.cluster import between
from tests.cluster.__main__ import arguments, plan_of, report, run_all
from tests.cluster.board import KILL, STEPS, Board
from tests.cluster.chain import ChainChecker, Objects
from tests.cluster.coverage import MOST, Coverage, Notes
from tests.cluster.facts import Asked, Facts
from tests.cluster.faults import MOUNTED, ODD, REAL, STRIKES, on_in
from tests.cluster.mutants import MUTANTS
from tests.cluster.plan import Plan, Result
from tests.cluster.tiny import ROOT
from tests.cluster.total import Total
from tests.simulation.dice import Dice
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
    done = cluster(short, *words, "--first", "2", seconds=seconds)
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
    assert said - {"server-between-refs"} == set(REAL) == set(STRIKES)


def test_a_fault_that_never_hits_fails() -> None:
    """A fault that was on and struck nothing is a failure, unless the seed was too short for all it has."""
    result = Result(plan=Plan(1, seconds=14.0, faults=("kill", "gc")))
    result.hits["kill", "push"] = 1
    total = Total()
    total.add(result)
    assert (total.unhit, total.failed) == (["gc"], False)
    total.add(replace(result, plan=replace(result.plan, seconds=15.0)))
    assert (total.unhit, total.failed) == (["gc"], True)
    assert "NEVER HIT: gc\n" in report(total, ("kill", "gc", "stop"))
    assert "in none of these seeds: stop\n" in report(total, ("kill", "gc", "stop"))
    hit = Result(plan=Plan(2, faults=("gc",)), hits=Counter({("gc", "repack"): 1}))
    total.add(hit)
    assert (total.unhit, total.failed) == ([], False)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """What was kept comes back whole, failures and hits included; seeds that were run are not run again."""
    total, keep = Total(), tmp_path / "deep" / "kept.json"
    good = Result(plan=Plan(1, faults=("kill",)), transactions=7, kills=2, errors=Counter({"StoreError": 1}))
    good.hits["kill", "push"] = 3
    assert total.add(good) is None
    bad = total.add(Result(plan=Plan(2, faults=("gc",)), violated="applied-once", detail="twice"))
    assert bad is not None
    assert (bad.seed, bad.invariant, bad.detail) == (2, "applied-once", "twice")
    total.save(keep)
    assert vars(Total.saved(keep)) == vars(total)
    again = run_all(arguments(["--first", "1", "--seeds", "2"]), keep)
    assert (again.runs, again.transactions, again.failures) == (2, 7, [bad])


def test_two_seeds_have_every_fault_between_them() -> None:
    """An even seed and the next have all, and what changes the promises is on in one of them only."""
    for first in range(0, 40, 2):
        one, two = on_in(first, REAL), on_in(first + 1, REAL)
        builds = set() if first % 8 == 0 else {"artifact-full"}
        assert set(one) | set(two) == set(REAL) - builds
        assert set(one) & set(two) == set(REAL) - set(ODD) - set(MOUNTED)
    assert on_in(3, ("store-cloned",)) == ("store-cloned",)


def test_every_fault_is_struck_until_it_has_hit() -> None:
    """First each fault comes once; one that hit nothing comes again, for longer; then weights decide."""
    coverage, dice = Coverage(("gc", "partition", "duplicated"), 60.0, 1.2, Dice(7)), Dice(8)
    first = [coverage.next(0.0, [], dice) for _ in range(3)]
    assert sorted(first) == ["duplicated", "gc", "partition"]  # type: ignore[type-var]
    hits = [("gc", "repack"), ("duplicated", "push")]
    assert coverage.next(1.0, hits, dice) in first  # what was struck last may hit yet
    assert not coverage.done
    assert coverage.fit(100.0) == 10.0  # no fault keeps another from its victims for long
    for number in range(2, MOST + 1):
        assert coverage.next(10.0 * number, hits, dice) == "partition"
        assert coverage.fit(0.1) == pytest.approx(0.1 * number)
    coverage.next(1000.0, hits, dice)
    assert coverage.done  # given up, and the report says that it never hit
    assert coverage.fit(100.0) == 100.0


class Commits(Objects):
    """Commits without content, each on the one before it."""

    def __init__(self, parents: dict[str, str | None]) -> None:
        self._parents = parents

    def get(self, oid: str) -> Object | None:
        return make("commit", oid.encode()) if oid in self._parents else None

    def commit(self, oid: str) -> Commit:
        parent = self._parents[oid]
        return Commit(tree="", parents=(parent,) if parent else (), message="")


def test_a_journal_tells_what_its_machine_had_seen() -> None:
    """A machine has seen what lies below a tip in its journal, from then on; a stranger's counts as seen."""
    facts = Facts()
    for tip, moment in (("first", 1.0), ("second", 5.0), ("gone", 6.0)):
        facts._sees("n1", tip, moment)
    facts.asked["a"] = Asked("a", "n1", 0.0, "lock", {}, {}, "process", None)
    facts.asked["b"] = Asked("b", "n2", 0.0, "lock", {}, {}, "process", None)
    commits = Commits({"first": None, "middle": "first", "second": "middle", "other": "first"})
    told = {name: getattr(facts, name) for name in ("tried", "last_alive", "asked", "tips", "begun")}
    witness = ChainChecker(commits, {**told, "odd": set()}).world.witness
    assert witness.has_seen("a", "middle")
    assert not witness.has_seen("a", "middle", before=5.0)
    assert not witness.has_seen("a", "other")
    assert not witness.has_seen("b", "first")
    assert witness.has_seen("nobody", "other")


def test_what_is_said_of_a_fault_is_counted(tmp_path: Path) -> None:
    """Only what is added since counts, and a file may come into being meanwhile."""
    said, new = tmp_path / "said", tmp_path / "new"
    said.write_text("The disk of the outbox x is full.\n")
    notes = Notes.of([said, new])
    assert not notes.about({"The disk of the outbox": "outbox"})
    with said.open("a") as file:
        file.write("The disk of the outbox y is full.\nThe disk of the outbox y is full.\n")
    new.write_text("no room\n")
    assert notes.about({"The disk of the outbox": "outbox", "no room": "x"}) == {"outbox": 2, "x": 1}


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
