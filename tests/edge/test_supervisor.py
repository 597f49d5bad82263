"""Real processes: whoever is killed, nothing of the tree is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.edge.procfs import boot_id, pid_namespace, read_stat
from pipeline.edge.supervisor import Ended, Standby, Supervised
from pipeline.edge.survivors import (
    MARKER_VARIABLE,
    Journal,
    find_survivors,
    kill_survivors,
    owner_alive,
    read_journal,
)
from pipeline.edge.watchdog import EXPIRED
from pipeline.errors import CommandFailed, MachineBusy

ENV = {"PATH": os.environ["PATH"]}

#: A program that prints its pid, starts a child, a child in a session of its own, and a daemon that was
#: double-forked, left its session and dropped its environment; all of them deaf to SIGTERM when asked.
FAMILY = """
import os, signal, sys, time
deaf = sys.argv[1:] == ["deaf"]
def member():
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(600)
if os.fork() == 0:
    member()
if os.fork() == 0:
    os.setsid()
    member()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        if deaf:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.execve("/bin/sh", ["sh", "-c", "echo $$; exec sleep 600"], {})
    os._exit(0)
"""

#: A pipeline: runs FAMILY supervised until it is killed.
PIPELINE = """
import os, sys
from pathlib import Path
from pipeline.edge.supervisor import Supervised
job = Path(sys.argv[1])
with Supervised([sys.executable, "-c", sys.argv[3], *sys.argv[4:]], cwd=job, env={}, marker=sys.argv[2],
                journal=job / "journal.json", grace_seconds=1, sample_seconds=0.05) as tree:
    print("watchdog", tree.watchdog_pid, flush=True)
    tree.run(lambda data: os.write(1, data))
"""


@pytest.fixture
def marker() -> str:
    return f"test.{uuid.uuid4().hex}"


@pytest.fixture
def supervise(tmp_path: Path, marker: str) -> Callable[..., Supervised]:
    def start(*argv: str, **options: object) -> Supervised:
        settings = {"cwd": tmp_path, "env": ENV, "marker": marker, "grace_seconds": 1.0, **options}
        return Supervised(argv, **settings)  # type: ignore[arg-type]

    return start


def _run(tree: Supervised, **options: object) -> tuple[Ended, bytes]:
    output = bytearray()
    with tree:
        ended = tree.run(output.extend, **options)  # type: ignore[arg-type]
    return ended, bytes(output)


def _family(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-c", FAMILY + "member()", *words)


def _until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "did not happen in time"
        time.sleep(0.02)


def _gone(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is None or stat.state in "ZX"


# -- a program that ends by itself -------------------------------------------------------------------------


def test_exit_status_output_and_usage_are_returned(supervise: Callable[..., Supervised]) -> None:
    """Both streams of the program arrive in order, with its status and what it used."""
    ended, output = _run(supervise("sh", "-c", "echo one; echo two >&2; exit 3"))
    assert output == b"one\ntwo\n"
    assert (ended.exit_status, ended.killed_by, ended.reason, ended.left) == (3, None, None, ())
    assert ended.peak_memory_bytes > 0
    assert ended.cpu_seconds > 0


def test_a_watchdog_may_stand_by(supervise: Callable[..., Supervised]) -> None:
    """One that was started beforehand runs the program as any other; nothing of it is left."""
    with Standby() as standby:
        ended, output = _run(supervise("sh", "-c", "echo one; exit 3", standby=standby))
    assert (output, ended.exit_status) == (b"one\n", 3)
    assert read_stat(standby.pid) is None


def test_a_watchdog_that_nobody_took_ends(supervise: Callable[..., Supervised]) -> None:
    """Given up, it is gone at once and buried; so is one whose pipeline was killed."""
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    with Standby() as standby:
        pid = standby.pid
        assert read_stat(pid) is not None
    assert read_stat(pid) is None
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == before
    code = "import os, signal; from pipeline.edge.supervisor import Standby\n"
    code += "print(Standby().pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    killed = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL
    _until(lambda: _gone(int(killed.stdout)))


def test_a_program_killed_alone_is_an_ordinary_end(supervise: Callable[..., Supervised]) -> None:
    """The kernel's SIGKILL of the program itself is told by its number."""
    ended, _ = _run(supervise("sh", "-c", "kill -9 $$"))
    assert (ended.exit_status, ended.killed_by, ended.reason) == (None, 9, None)


def test_a_program_that_cannot_start_is_named(supervise: Callable[..., Supervised]) -> None:
    """The missing program and the missing directory are in the message."""
    with pytest.raises(CommandFailed, match=r"/no/such/program .*No such file"):
        _run(supervise("/no/such/program"))
    with pytest.raises(CommandFailed, match=r"no-such-program .*No such file"):
        _run(supervise("no-such-program"))
    with pytest.raises(CommandFailed, match=r"the mount on /no/such/target .*"):
        _run(supervise("true", mounts=[("/", "/no/such/target")]))
    with pytest.raises(CommandFailed, match=r"/no/such/directory .*No such file"):
        _run(supervise("true", cwd="/no/such/directory"))


def test_the_environment_is_the_whole_environment(supervise: Callable[..., Supervised]) -> None:
    """Nothing of the pipeline's own environment leaks in; the marker is added."""
    _, output = _run(supervise("/usr/bin/env", env={"A": "b", "ODD": "\udcff"}))
    assert {line.partition(b"=")[0] for line in output.split(b"\n")} == {
        b"A",
        b"ODD",
        MARKER_VARIABLE.encode(),
        b"",
    }


def test_nothing_else_is_inherited(supervise: Callable[..., Supervised]) -> None:
    """A file that the pipeline was started with, left open for its children, does not reach the tree."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        _, output = _run(supervise("ls", "/proc/self/fd"))
    finally:
        os.close(reader)
        os.close(writer)
    assert output.split() == [b"0", b"1", b"2", b"3"]  # 3 is the directory that ls reads


def test_signals_and_umask_are_the_defaults(supervise: Callable[..., Supervised]) -> None:
    """What the watchdog ignores for itself is not ignored in the tree, and the umask is the one given."""
    _, output = _run(supervise("grep", "-E", "SigIgn|SigBlk|Umask", "/proc/self/status", umask=0o027))
    found = dict(line.split(":\t") for line in output.decode().splitlines())
    own_of_libc = 0b11 << 31  # signals 32 and 33, which no program may touch
    assert found["Umask"] == "0027"
    assert int(found["SigBlk"], 16) == 0
    assert int(found["SigIgn"], 16) & ~own_of_libc == 0


def test_daemons_that_outlive_the_program_are_ended(supervise: Callable[..., Supervised]) -> None:
    """A double-forked daemon in its own session, with an empty environment, is gone when `run` returns."""
    code = FAMILY + "time.sleep(0.3)"
    ended, output = _run(supervise(sys.executable, "-c", code))
    assert ended.exit_status == 0
    assert ended.stragglers == 3
    pids = [int(line) for line in output.split()]
    assert len(pids) == 3
    assert all(map(_gone, pids))


def test_much_output_takes_little_memory(supervise: Callable[..., Supervised]) -> None:
    """Output is handed on in chunks of at most 64 KiB."""
    largest = total = 0

    def take(data: bytes) -> None:
        nonlocal largest, total
        largest, total = max(largest, len(data)), total + len(data)

    with supervise("head", "-c", "20000000", "/dev/zero") as tree:
        tree.run(take)
    assert total == 20_000_000
    assert largest <= 65536


# -- ending it ---------------------------------------------------------------------------------------------


def test_end_terminates_the_whole_tree(supervise: Callable[..., Supervised]) -> None:
    """A cancelled build leaves none of its processes, and says why it ended."""
    seen = bytearray()

    def poll(elapsed: float) -> str | None:
        return "cancelled by alice" if seen.count(b"\n") == 4 else None

    with supervise(*_family()) as tree:
        ended = tree.run(seen.extend, poll=poll, poll_seconds=0.02)
    assert (ended.reason, ended.killed_by) == ("cancelled by alice", signal.SIGTERM)
    assert all(_gone(int(line)) for line in seen.split())


def test_what_does_not_hear_terminate_is_killed(supervise: Callable[..., Supervised]) -> None:
    """After the grace every process is killed, daemons included."""
    seen = bytearray()

    def poll(elapsed: float) -> str | None:
        return "cancelled" if seen.count(b"\n") == 4 else None

    with supervise(*_family("deaf"), grace_seconds=0.2) as tree:
        ended = tree.run(seen.extend, poll=poll, poll_seconds=0.02)
    assert (ended.killed_by, ended.left) == (signal.SIGKILL, ())
    assert all(_gone(int(line)) for line in seen.split())


def test_stopped_processes_are_ended_too(supervise: Callable[..., Supervised]) -> None:
    """A process that was stopped hears SIGTERM because it is continued as well."""
    tree = supervise("sh", "-c", "kill -STOP $$; sleep 600", grace_seconds=60.0)
    ended, _ = _run(tree, poll=lambda elapsed: "cancelled" if elapsed > 0.2 else None, poll_seconds=0.1)
    assert ended.killed_by == signal.SIGTERM
    assert ended.seconds < 30


def test_the_deadline_ends_the_tree(supervise: Callable[..., Supervised]) -> None:
    """A tree that hangs ends at its deadline, with the reason `timeout`."""
    ended, _ = _run(supervise("sleep", "600", deadline_seconds=0.2))
    assert (ended.reason, ended.killed_by) == ("timeout", signal.SIGTERM)


def test_what_nobody_moves_on_ends_the_tree(supervise: Callable[..., Supervised]) -> None:
    """A moment that was moved on twice and then no more ends the tree then: not before, and as `expired`."""
    begun = time.clock_gettime(time.CLOCK_BOOTTIME)
    moments = [begun + 2.5, begun + 3.0]

    def poll(elapsed: float) -> str | None:
        if moments:
            tree.extend(moments.pop(0))
            tree.extend(begun)  # an order that was held up on the way extends nothing
        return None

    tree = supervise("sleep", "600", until=begun + 2.0)
    ended, _ = _run(tree, poll=poll, poll_seconds=0.05)
    assert (ended.reason, ended.killed_by) == (EXPIRED, signal.SIGTERM)
    assert time.clock_gettime(time.CLOCK_BOOTTIME) - begun >= 3.0


def test_what_does_not_hear_terminate_is_killed_after_its_moment(
    supervise: Callable[..., Supervised],
) -> None:
    """The grace follows the moment; a family that is deaf to SIGTERM is gone after it."""
    seen = bytearray()
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + 3.0
    with supervise(*_family("deaf"), until=until, grace_seconds=0.3) as tree:
        ended = tree.run(seen.extend, poll_seconds=0.05)
    assert (ended.reason, ended.killed_by, ended.left) == (EXPIRED, signal.SIGKILL, ())
    assert len(seen.split()) == 4
    assert all(_gone(int(line)) for line in seen.split())


def test_a_program_whose_time_is_over_does_not_begin(
    tmp_path: Path, supervise: Callable[..., Supervised]
) -> None:
    """A moment that passed before the program was there lets it do nothing at all."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME) - 0.1
    ended, output = _run(supervise("touch", str(tmp_path / "worked"), until=before))
    assert (ended.reason, output) == (EXPIRED, b"")
    assert not (tmp_path / "worked").exists()


def test_a_stopped_watchdog_does_not_keep_a_tree(supervise: Callable[..., Supervised]) -> None:
    """Where the watchdog is stopped, its pipeline ends the tree once grace and slack are over."""
    seen, stopped = bytearray(), list[int]()
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + 4.0
    grace = {"grace_seconds": 0.3, "slack_seconds": 0.2}
    with supervise(*_family("deaf"), until=until, sample_seconds=0.05, **grace) as tree:

        def stop(elapsed: float) -> str | None:
            # Late enough for a sample that shows the daemon without a marker.
            if elapsed > 3.0 and seen.count(b"\n") == 4 and not stopped:
                os.kill(tree.watchdog_pid, signal.SIGSTOP)
                stopped.append(tree.watchdog_pid)
            return None

        ended = tree.run(seen.extend, poll=stop, poll_seconds=0.05)
    assert stopped
    assert ended.watchdog_lost
    assert ended.left == ()
    assert time.clock_gettime(time.CLOCK_BOOTTIME) > until
    assert all(_gone(int(line)) for line in seen.split())


def test_an_inherited_output_is_the_callers_own(tmp_path: Path, marker: str) -> None:
    """With `inherit` stdout stays stdout and stderr stderr; nothing passes through the pipeline."""
    code = (
        "import sys; from pathlib import Path; from pipeline.edge.supervisor import Supervised\n"
        "words = ['/bin/sh', '-c', 'echo one; echo two >&2; exit 3']\n"
        "tree = Supervised(words, cwd='/', env={}, marker=sys.argv[1], inherit=True)\n"
        "with tree: sys.exit(tree.run(lambda data: sys.exit(9)).exit_status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, marker],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, b"one\n", b"two\n")


def test_an_error_in_a_callback_ends_the_tree(supervise: Callable[..., Supervised]) -> None:
    """An exception between start and end leaves no process behind."""

    def fail(data: bytes) -> None:
        raise RuntimeError("the log cannot be written")

    with pytest.raises(RuntimeError, match="log"), supervise("sh", "-c", "echo x; sleep 600") as tree:
        tree.run(fail)
    assert tree.pid is not None
    assert _gone(tree.pid)


def test_the_journal_is_there_while_the_program_runs(
    tmp_path: Path, supervise: Callable[..., Supervised]
) -> None:
    """A program that runs is in the journal; one that ended in order is in none."""
    journal = tmp_path / "journal.json"
    ended, output = _run(supervise("cat", str(journal), journal=journal))
    facts = json.loads(output)
    assert ended.exit_status == 0
    assert (facts["boot_id"], facts["owner_pid"]) == (boot_id(), os.getpid())
    assert not journal.exists()


def test_a_journal_that_cannot_be_written_stops_the_start(supervise: Callable[..., Supervised]) -> None:
    """No program runs without its journal."""
    with pytest.raises(CommandFailed, match=r"the journal /no/where"):
        _run(supervise("sh", "-c", "echo started", journal=Path("/no/where")))


# -- kill -9 -----------------------------------------------------------------------------------------------


@pytest.fixture
def pipeline(
    tmp_path: Path, marker: str
) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int, list[int]]]]:
    """Starts a pipeline process with a family below it; returns it, its watchdog and the family's pids."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> tuple[subprocess.Popen[str], int, list[int]]:
        process = subprocess.Popen(
            [sys.executable, "-c", PIPELINE, str(tmp_path), marker, FAMILY + "member()", *words],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        started.append(process)
        assert process.stdout is not None
        watchdog = int(process.stdout.readline().split()[1])
        return process, watchdog, [int(process.stdout.readline()) for _ in range(4)]

    yield start
    for process in started:
        process.kill()
        process.communicate()
    for left in find_survivors(Journal(0, 0, marker)):
        left.kill()


def test_kill_9_of_the_pipeline(
    pipeline: Callable[..., tuple[subprocess.Popen[str], int, list[int]]],
) -> None:
    """The watchdog sees its control pipe close and ends the tree: nothing is left, the daemon included."""
    process, watchdog, family = pipeline("deaf")
    process.kill()
    process.wait()
    _until(lambda: all(map(_gone, [watchdog, *family])))


def test_kill_9_of_the_watchdog(
    pipeline: Callable[..., tuple[subprocess.Popen[str], int, list[int]]], tmp_path: Path
) -> None:
    """The pipeline inherits the orphans and ends them, the daemon without marker included."""
    process, watchdog, family = pipeline()
    _until(lambda: _daemon_is_noted(tmp_path, family))
    os.kill(watchdog, signal.SIGKILL)
    process.wait(timeout=20)
    assert all(map(_gone, family))


def test_kill_9_of_the_program(pipeline: Callable[..., tuple[subprocess.Popen[str], int, list[int]]]) -> None:
    """What the killed program leaves behind is ended by the watchdog."""
    process, watchdog, family = pipeline()
    os.kill(_program(watchdog), signal.SIGKILL)
    process.wait(timeout=20)
    assert all(map(_gone, [watchdog, *family]))


def _daemon_is_noted(job: Path, family: list[int]) -> bool:
    """Returns whether one sample was taken since the daemon without marker and session came.

    Another of the family, or a process between its fork and its exec, may be noted as well for a moment: so
    the daemon itself is looked for, which has become another program.
    """
    journal = read_journal(job / "journal.json")
    noted = {pid for pid, _ in journal.strangers} if journal is not None else set()
    return any(pid in noted and psutil.Process(pid).name() == "sleep" for pid in family)


def _program(watchdog: int) -> int:
    """Returns the watchdog's child that leads the tree: the daemon, its other child, came later."""
    return min(psutil.Process(watchdog).children(), key=lambda child: child.create_time()).pid


def test_kill_9_of_pipeline_and_watchdog_together(
    pipeline: Callable[..., tuple[subprocess.Popen[str], int, list[int]]], tmp_path: Path
) -> None:
    """With both dead the journal and the marker find the rest, and `kill_survivors` ends it."""
    process, watchdog, family = pipeline("deaf")
    _until(lambda: _daemon_is_noted(tmp_path, family))
    os.kill(process.pid, signal.SIGSTOP)  # or it would end the tree itself
    os.kill(watchdog, signal.SIGKILL)
    process.kill()
    process.wait()
    journal = read_journal(tmp_path / "journal.json")
    assert journal is not None
    assert not owner_alive(journal)
    _until(lambda: sum(not _gone(pid) for pid in family) == 3)  # the program itself dies with its watchdog
    assert {pid for pid in family if not _gone(pid)} == {left.pid for left in find_survivors(journal)}
    assert kill_survivors(journal, 0.2) == []
    assert all(map(_gone, family))


def test_a_stopped_pipeline_does_not_stop_the_deadline(tmp_path: Path, marker: str) -> None:
    """Ctrl-Z holds up the pipeline, not the deadline: the watchdog has a clock of its own."""
    code = PIPELINE.replace("grace_seconds=1", "grace_seconds=1, deadline_seconds=0.6")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), marker, FAMILY + "member()"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    process.stdout.readline()
    family = [int(process.stdout.readline()) for _ in range(4)]
    os.kill(process.pid, signal.SIGSTOP)
    try:
        _until(lambda: all(map(_gone, family)))
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.communicate()


# -- the journal -------------------------------------------------------------------------------------------


def test_a_pid_used_again_is_not_a_survivor(marker: str) -> None:
    """A living process with the journal's pid but another start time belongs to somebody else."""
    with subprocess.Popen(["sleep", "600"]) as other:
        stat = read_stat(other.pid)
        assert stat is not None
        journal = Journal(
            other.pid, stat.start_ticks + 1, marker, boot_id=boot_id(), pid_namespace=pid_namespace()
        )
        found = find_survivors(journal)
        other.kill()
    assert found == []


def test_another_boot_left_nothing(marker: str) -> None:
    """After a reboot no process can be the journal's, whatever its pid and start time."""
    with subprocess.Popen(["sleep", "600"], env={MARKER_VARIABLE: marker}) as other:
        stat = read_stat(other.pid)
        assert stat is not None
        here = find_survivors(Journal(other.pid, stat.start_ticks, marker, boot_id=boot_id()))
        before = find_survivors(Journal(other.pid, stat.start_ticks, marker, boot_id="another"))
        other.kill()
    assert ([process.pid for process in here], before) == ([other.pid], [])


def test_a_marker_is_matched_whole(marker: str) -> None:
    """Job 1's survivors are not those of job 10."""
    with subprocess.Popen(["sleep", "600"], env={MARKER_VARIABLE: marker + "0"}) as other:
        found = find_survivors(Journal(0, 0, marker))
        other.kill()
    assert found == []


def test_a_build_whose_pipeline_lives_is_not_killed(marker: str) -> None:
    """`kill_survivors` refuses while another living process owns the build."""
    with subprocess.Popen(["sleep", "600"]) as owner:
        stat = read_stat(owner.pid)
        assert stat is not None
        journal = Journal(
            0, 0, marker, owner.pid, stat.start_ticks, boot_id=boot_id(), pid_namespace=pid_namespace()
        )
        with pytest.raises(MachineBusy, match=str(owner.pid)):
            kill_survivors(journal)
        owner.kill()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\x00" * 80])
def test_a_journal_that_was_cut_is_none(tmp_path: Path, text: str) -> None:
    """What a power loss left of a journal is read as no journal."""
    path = tmp_path / "journal.json"
    assert read_journal(path) is None
    path.write_text(text)
    assert read_journal(path) is None


def test_the_watchdog_imports_the_standard_library_only() -> None:
    """It starts without the site's packages, so that it starts at once."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pipeline.edge.watchdog; print(*sys.modules)"
    words = [sys.executable, "-I", "-S", "-c", code, str(Path(__file__).parents[2])]
    loaded = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert "pathlib" not in loaded
    assert {name.partition(".")[0] for name in loaded} <= {*sys.stdlib_module_names, "pipeline", "__main__"}
