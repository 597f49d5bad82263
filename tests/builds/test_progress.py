from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.builds.eta import time_left
from pipeline.builds.progress import (
    ModuleFinished,
    ModuleStarted,
    Progress,
    ReactorFinished,
    parse_duration,
)
from pipeline.edge.lines import strip_ansi
from pipeline.records.builds import ModuleTime

LONG = "Apache CloudStack Plugin - User Concentrated Pod Deployment Planner"

#: What Maven 3.8 prints for a reactor of three, shortened. The second name is over 50 characters.
SEQUENTIAL = f"""\
[INFO] Scanning for projects...
[INFO] ------------------------------------------------------------------------
[INFO] Reactor Build Order:
[INFO]
[INFO] Apache CloudStack                                                  [pom]
[INFO] {LONG} [jar]
[INFO] Apache CloudStack marvin                                           [pom]
[INFO]
[INFO] ------------------< org.apache.cloudstack:cloudstack >------------------
[INFO] Building Apache CloudStack 4.21.0.0-SNAPSHOT                     [1/3]
[INFO] --------------------------------[ pom ]---------------------------------
[INFO]
[INFO] --- maven-clean-plugin:3.4.0:clean (default-clean) @ cloudstack ---
[INFO] -----< org.apache.cloudstack:cloud-plugin-planner >-----
[INFO] Building {LONG} 4.21.0.0-SNAPSHOT [2/3]
[INFO] --------------------------------[ jar ]---------------------------------
[INFO] Building jar: /media/build/cloudstack/x/target/x-4.21.0.0-SNAPSHOT.jar
[INFO] ---------------------< org.apache.cloudstack:marvin >-------------------
[INFO] Building Apache CloudStack marvin 4.21.0.0-SNAPSHOT              [3/3]
[INFO] ------------------------------------------------------------------------
[INFO] Reactor Summary for Apache CloudStack 4.21.0.0-SNAPSHOT:
[INFO]
[INFO] Apache CloudStack .................................. SUCCESS [  1.463 s]
[INFO] {LONG} SUCCESS [01:05 min]
[INFO] Apache CloudStack marvin ........................... SUCCESS [  1.749 s]
[INFO] ------------------------------------------------------------------------
[INFO] BUILD SUCCESS
[INFO] ------------------------------------------------------------------------
[INFO] Total time:  01:09 min
""".splitlines()


def _feed(lines: list[str], threads: int = 0) -> tuple[Progress, list[object]]:
    """Feeds a line a second."""
    progress = Progress(threads)
    return progress, [event for at, line in enumerate(lines) for event in progress.feed(line, float(at))]


def test_a_sequential_reactor_is_followed() -> None:
    """Each module starts as i of n and ends when the next one starts; the last one in the summary."""
    _, events = _feed(SEQUENTIAL)
    assert events == [
        ModuleStarted("Apache CloudStack", 1, 3, 9.0),
        ModuleFinished("Apache CloudStack", 1, 3, 5.0, "success"),
        ModuleStarted(LONG, 2, 3, 14.0),
        ModuleFinished(LONG, 2, 3, 4.0, "success"),
        ModuleStarted("Apache CloudStack marvin", 3, 3, 18.0),
        ModuleFinished("Apache CloudStack marvin", 3, 3, 1.749, "success"),
        ReactorFinished(True, 26.0),
    ]


def test_the_summary_gives_exact_durations() -> None:
    """What was measured from outside is replaced by what Maven says, also for names over 50 characters."""
    progress, _ = _feed(SEQUENTIAL)
    assert [(m.name, m.artifact, m.duration_seconds, m.status) for m in progress.modules()] == [
        ("Apache CloudStack", "cloudstack", 1.463, "success"),
        (LONG, "cloud-plugin-planner", 65.0, "success"),
        ("Apache CloudStack marvin", "marvin", 1.749, "success"),
    ]
    assert (progress.finished, progress.total) == (True, 3)


def test_a_failed_reactor_names_what_failed_and_what_was_skipped() -> None:
    """After BUILD FAILURE the modules have the states of the summary."""
    lines = [
        *SEQUENTIAL[:18],
        "[INFO] Reactor Summary for Apache CloudStack 4.21.0.0-SNAPSHOT:",
        "[INFO]",
        "[INFO] Apache CloudStack .................................. SUCCESS [  1.463 s]",
        f"[INFO] {LONG} FAILURE [  0.414 s]",
        "[INFO] Apache CloudStack marvin ........................... SKIPPED",
        "[INFO] ------------------------------------------------------------------------",
        "[INFO] BUILD FAILURE",
    ]
    progress, events = _feed(lines)
    assert [m.status for m in progress.modules()] == ["success", "failed", "skipped"]
    assert events[-2:] == [ModuleFinished(LONG, 2, 3, 0.414, "failed"), ReactorFinished(False, 24.0)]


def test_build_success_is_no_module() -> None:
    """`BUILD SUCCESS` has the form of a summary line and is tested first, even before any summary."""
    progress, events = _feed(["[INFO] Reactor Summary:", "[INFO] BUILD SUCCESS"])
    assert progress.modules() == []
    assert events == [ReactorFinished(True, 1.0)]


def test_a_reactor_of_one_has_no_numbers() -> None:
    """A single module has neither a build order nor [1/1] nor a summary."""
    lines = [
        "[INFO] ------------------< org.example:alone >------------------",
        "[INFO] Building Alone 1.0",
        "[INFO] Building jar: /tmp/alone-1.0.jar",
        "[INFO] BUILD SUCCESS",
    ]
    progress, events = _feed(lines)
    assert events == [
        ModuleStarted("Alone", 1, 1, 1.0),
        ModuleFinished("Alone", 1, 1, 2.0, "success"),
        ReactorFinished(True, 3.0),
    ]
    assert progress.modules()[0].artifact == "alone"


def test_a_build_that_was_killed_keeps_what_it_had() -> None:
    """Without a summary the last module is still running and the others have not started."""
    progress, _ = _feed(SEQUENTIAL[:16])
    assert [m.status for m in progress.modules()] == ["success", "running", "skipped"]
    assert [m.name for m in progress.running()] == [LONG]
    assert progress.finished is None


def test_two_modules_may_share_a_name() -> None:
    """Of two modules called the same, each keeps its own duration."""
    lines = [
        "[INFO] Reactor Build Order:",
        "[INFO] Twin  [jar]",
        "[INFO] Twin  [jar]",
        "[INFO] --< g:one >--",
        "[INFO] Building Twin 1 [1/2]",
        "[INFO] --< g:two >--",
        "[INFO] Building Twin 1 [2/2]",
        "[INFO] Reactor Summary for Twin 1:",
        "[INFO] Twin .... SUCCESS [  1.000 s]",
        "[INFO] Twin .... SUCCESS [  2.000 s]",
        "[INFO] BUILD SUCCESS",
    ]
    progress, _ = _feed(lines)
    assert [(m.artifact, m.duration_seconds) for m in progress.modules()] == [("one", 1.0), ("two", 2.0)]


def test_the_summary_may_add_the_version() -> None:
    """Where modules differ in version, Maven writes it behind each name."""
    lines = [
        "[INFO] Reactor Build Order:",
        "[INFO] Tool  [jar]",
        "[INFO] --< g:tool >--",
        "[INFO] Building Tool 2.0 [1/1]",
        "[INFO] Reactor Summary:",
        "[INFO] Tool 2.0 ........ SUCCESS [  1.500 s]",
    ]
    assert _feed(lines)[0].modules()[0].duration_seconds == 1.5


PARALLEL = """\
[main] [INFO] Reactor Build Order:
[main] [INFO] A  [pom]
[main] [INFO] B  [jar]
[main] [INFO] C  [jar]
[main] [INFO] D  [jar]
[mvn-builder-a] [INFO] ---< g:a >---
[mvn-builder-a] [INFO] Building A 1    [1/4]
[mvn-builder-b] [INFO] ---< g:b >---
[mvn-builder-c] [INFO] ---< g:c >---
[mvn-builder-b] [INFO] Building B 1    [2/4]
[mvn-builder-c] [INFO] Building C 1    [3/4]
[mvn-builder-b] [INFO] --- maven-jar-plugin:3.3.0:jar (default-jar) @ b ---
[mvn-builder-d] [INFO] ---< g:d >---
[mvn-builder-d] [INFO] Building D 1    [4/4]
[main] [INFO] Reactor Summary for A 1:
[main] [INFO] A ... SUCCESS [  2.000 s]
[main] [INFO] B ... SUCCESS [  9.000 s]
[main] [INFO] C ... SUCCESS [  3.000 s]
[main] [INFO] D ... SUCCESS [  1.000 s]
[main] [INFO] BUILD SUCCESS
""".splitlines()


def test_a_parallel_reactor_is_followed_by_its_threads() -> None:
    """With two threads at most two modules run; the one that was silent longest gives way."""
    progress, events = _feed(PARALLEL, threads=2)
    started = [(e.name, e.index) for e in events if isinstance(e, ModuleStarted)]
    assert started == [("A", 1), ("B", 2), ("C", 3), ("D", 4)]
    before_summary = [e.name for e in events[:6] if isinstance(e, ModuleFinished)]
    assert before_summary == ["A", "C"]
    assert [(m.artifact, m.duration_seconds) for m in progress.modules()] == [
        ("a", 2.0),
        ("b", 9.0),
        ("c", 3.0),
        ("d", 1.0),
    ]


def test_a_resumed_reactor_counts_anew() -> None:
    """After -rf the build order lists what is left, and n is its length."""
    lines = [
        "[INFO] Reactor Build Order:",
        "[INFO] C  [jar]",
        "[INFO] --< g:c >--",
        "[INFO] Building C 1 [1/1]",
    ]
    assert _feed(lines)[1] == [ModuleStarted("C", 1, 1, 3.0)]


# -- anything may come -------------------------------------------------------------------------------------

LINES = (
    st.sampled_from([*SEQUENTIAL, *PARALLEL])
    | st.text(max_size=80).map(lambda text: f"[INFO] {text}")
    | st.text()
)


@given(st.lists(LINES, max_size=60), st.integers(0, 4))
def test_no_text_breaks_the_parser(lines: list[str], threads: int) -> None:
    """Whatever is printed, events make sense: a module ends once, after it started, in a known state."""
    progress, events = _feed(lines, threads)
    open_modules: dict[int, str] = {}
    for event in events:
        if isinstance(event, ModuleStarted):
            open_modules[event.index] = event.name
            assert event.index <= event.total
        elif isinstance(event, ModuleFinished):
            assert open_modules.pop(event.index) == event.name
            assert event.seconds >= 0
    assert len(progress.running()) <= max(1, threads)
    assert all(m.status in ("success", "failed", "skipped", "running") for m in progress.modules())


def test_memory_is_bounded() -> None:
    """A log that names modules without end is not remembered without end."""
    progress = Progress()
    for number in range(2_500):
        progress.feed(f"[INFO] Building Module{number} 1 [1/1]", 0.0)
    assert progress.total <= 2000


@given(st.lists(st.sampled_from(SEQUENTIAL), max_size=40))
def test_colours_make_no_difference(lines: list[str]) -> None:
    """With escape sequences stripped a coloured log reads like a plain one."""
    coloured = [
        strip_ansi(
            "\x1b[0m\x1b[0m"
            + line.replace("INFO", "\x1b[1;34mINFO\x1b[m").replace("SUCCESS", "\x1b[32mSUCCESS\x1b[m")
        )
        for line in lines
    ]
    assert _feed(coloured)[1] == _feed(lines)[1]


@given(st.text())
def test_a_duration_is_a_number_or_none(text: str) -> None:
    """Anything that is not Maven's form is None."""
    seconds = parse_duration(text)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("  7.937 s", 7.937),
        ("0.029 s", 0.029),
        ("12 s", 12.0),
        ("01:23 min", 83.0),
        ("1:02 h", 3720.0),
        ("1 d 02:03 h", 93780.0),
        ("", None),
        ("7,937 s", None),
    ],
)
def test_durations_as_maven_writes_them(text: str, seconds: float | None) -> None:
    """Seconds, minutes, hours and days are read exactly."""
    assert parse_duration(text) == seconds


# -- time left ---------------------------------------------------------------------------------------------


def _module(name: str, start: float | None, seconds: float | None, status: str = "success") -> ModuleTime:
    return ModuleTime.model_validate(
        {"name": name, "started_seconds": start, "duration_seconds": seconds, "status": status}
    )


PAST = [_module("a", 0, 10), _module("b", 10, 30), _module("c", 40, 60)]


def test_without_history_nothing_is_promised() -> None:
    """No former build, or one without durations, gives no estimate."""
    assert time_left([], [], 5.0) is None
    assert time_left([[_module("a", None, None, "skipped")]], [], 5.0) is None


def test_a_build_at_the_usual_pace_takes_what_is_left() -> None:
    """After 20 of 100 usual seconds 80 are left, and the packaging."""
    now = [_module("a", 0, 10), _module("b", 10, None, "running"), _module("c", None, None, "skipped")]
    left = time_left([PAST], now, 20.0, packaging=[50.0])
    assert left == pytest.approx(130.0)


def test_a_slower_machine_is_noticed() -> None:
    """A build that took twice as long for the same work is expected to go on so."""
    slow = [_module("a", 0, 20), _module("b", 20, 60), _module("c", 80, None, "running")]
    left = time_left([PAST], slow, 80.0)
    assert left is not None
    assert 90 < left <= 120


def test_a_parallel_build_is_measured_on_its_time_axis() -> None:
    """Two lanes of 50 s take 50 s, not 100."""
    past = [_module("a", 0, 50), _module("b", 0, 50)]
    now = [_module("a", 0, None, "running"), _module("b", 0, None, "running")]
    assert time_left([past], now, 25.0) == pytest.approx(25.0)


def test_new_modules_count() -> None:
    """A module that no former build had is expected to take what modules usually take."""
    now = [_module("a", 0, None, "running"), _module("new", None, None, "skipped")]
    assert time_left([PAST], now, 0.0) == pytest.approx(130.0)


def test_after_maven_the_packaging_is_left() -> None:
    """The packaging's own past counts, at this build's pace."""
    assert time_left([PAST], PAST, 120.0, packaging=[40, 60, 50], maven_ended=100.0) == pytest.approx(30.0)


MODULES = st.lists(
    st.builds(
        _module,
        st.sampled_from("abcdef"),
        st.none() | st.floats(0, 1e6),
        st.none() | st.floats(0, 1e6),
        st.sampled_from(["success", "failed", "skipped", "running"]),
    ),
    max_size=8,
)


@given(st.lists(MODULES, max_size=4), MODULES, st.floats(0, 1e6), st.none() | st.floats(0, 1e6))
def test_an_estimate_is_never_negative(
    history: list[list[ModuleTime]], modules: list[ModuleTime], elapsed: float, ended: float | None
) -> None:
    """Whatever was recorded, the time left is None or a number that is not below zero."""
    left = time_left(history, modules, elapsed, packaging=[1.0], maven_ended=ended)
    assert left is None or 0 <= left < float("inf")
