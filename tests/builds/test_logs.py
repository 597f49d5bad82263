"""Promises of the logs: bounded, masked, valid whenever they are cut off, and nothing of importance lost."""

from __future__ import annotations

import json
import tempfile
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.builds import logs
from pipeline.builds.events import MAXIMUM_EVENTS, StructuredLogWriter, recover
from pipeline.builds.logs import MAXIMUM_READABLE_BYTES, LogFacts, readable_log, summary_markdown
from pipeline.edge.clock import ManualClock
from pipeline.errors import RecordInvalid
from pipeline.records.base import dump, load
from pipeline.records.builds import Artifact, Failure, Manifest, ModuleTime, Stage, StructuredLog

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FAILURE = Failure(
    **{"class": "compile"},
    module="cloud-plugin-hypervisor-xenserver",
    message="cannot find symbol",
    line=5001,
    remedy="Use the other jar.",
)
IDENTITY = {"log_id": "l", "job_id": "job_1", "server": "build1", "branch": "b", "commit": "a" * 40}


def facts(**changes: Any) -> LogFacts:
    given_: dict[str, Any] = {
        "job_id": "job_1",
        "builder": "build1",
        "branch": "ExternalNew",
        "commit": "a" * 40,
        "status": "failed",
        "duration_seconds": 61.2,
        "failure": FAILURE,
        "stages": [Stage(name="maven", duration_seconds=60.0, status="failed")],
        "modules": [ModuleTime(name=f"Apache CloudStack {n}", duration_seconds=float(n)) for n in range(147)],
        "modules_expected": 147,
    }
    return LogFacts(**{**given_, **changes})


def log(tmp_path: Path, *lines: str | bytes) -> Path:
    path = tmp_path / "build.log"
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines) + b"\n")
    return path


def readable(tmp_path: Path, *lines: str | bytes, **changes: Any) -> str:
    data = readable_log(log(tmp_path, *lines), facts(**changes))
    assert len(data) <= MAXIMUM_READABLE_BYTES
    return data.decode()


FILLER = [f"[INFO] filler {number}" for number in range(5000)]


def test_it_holds_cause_table_head_errors_and_tail(tmp_path: Path) -> None:
    """All that a person asks first is there, with the line numbers of the raw log."""
    error = "[ERROR] /b/X.java:[12,3] cannot find symbol"
    text = readable(tmp_path, *FILLER, error, *FILLER)
    assert "failure  compile in cloud-plugin-hypervisor-xenserver (line 5001): cannot find symbol" in text
    assert "remedy   Use the other jar." in text
    assert "== Modules (147 of 147) ==" in text
    assert "146.0 s  Apache CloudStack 146" in text
    assert "      1  [INFO] filler 0\n" in text
    assert f"   5001  {error}\n" in text
    assert "  10001  [INFO] filler 4999\n" in text


def test_an_error_is_shown_with_its_surroundings(tmp_path: Path) -> None:
    """Three lines before and six after."""
    text = readable(tmp_path, *FILLER, "[ERROR] here", *FILLER)
    errors = text.split("== Errors")[1].split("== Tail")[0]
    assert [line[9:] for line in errors.splitlines()[1:] if line] == [
        *(f"[INFO] filler {number}" for number in (4997, 4998, 4999)),
        "[ERROR] here",
        *(f"[INFO] filler {number}" for number in range(6)),
    ]


ERRORS = [
    "[ERROR] Failed to execute goal",
    "[\x1b[1;31mERROR\x1b[m] coloured",
    "[INFO] BUILD FAILURE",
    "src/x.c:1:2: error: expected",
    "npm ERR! code 1",
    "npm error code 1",
    "make[1]: *** [debian/rules:17: override_dh_auto_build] Error 1",
    "dpkg-checkbuilddeps: error: Unmet build dependencies: python2",
    "fatal: unable to access",
    'Exception in thread "main" java.lang.Error',
    "java.lang.OutOfMemoryError: Java heap space",
    "tar: write error: No space left on device",
    "Killed",
    "[INFO] Tests run: 4, Failures: 1, Errors: 0, Skipped: 0 <<< FAILURE!",
    "dh_auto_install: error: make -j2 install returned exit code 2",
    "E: Unable to locate package",
]


@pytest.mark.parametrize("line", ERRORS)
def test_every_tool_s_errors_are_known(tmp_path: Path, line: str) -> None:
    """Maven, javac, npm, make, dpkg, git, the JVM and the kernel say it differently."""
    text = readable(tmp_path, *FILLER, line, *FILLER)
    assert "== Errors (1) ==" in text
    assert f"   5001  {logs.clean(line)}\n" in text


@pytest.mark.parametrize(
    "line",
    [
        "[INFO] Building Apache CloudStack Plugin - Error Handling",
        "[ERROR] ",
        "[ERROR] -> [Help 1]".replace("-> ", ""),
        "[INFO] Compiling ExceptionUtil.java",
        "[INFO] 0 failed",
        "[WARNING] failed to find",
    ],
)
def test_what_only_looks_like_an_error_is_none(tmp_path: Path, line: str) -> None:
    """Class names, counts and Maven's empty error lines do not fill the errors."""
    assert "== Errors" not in readable(tmp_path, *FILLER, line, *FILLER)


def test_the_same_error_again_and_again_is_shown_once_and_counted(tmp_path: Path) -> None:
    """Ten thousand repetitions leave room for the one that differs."""
    flood = [f"[ERROR] disk {number} is slow" for number in range(10_000)]
    text = readable(tmp_path, *flood, *FILLER, "[ERROR] the real one", *FILLER)
    assert "== Errors (10001" in text
    assert "[ERROR] the real one" in text


def test_many_different_errors_are_bounded_and_counted(tmp_path: Path) -> None:
    """What is not shown is said."""
    flood = [f"[ERROR] {chr(97 + n % 26) * (1 + n // 26)} is different" for n in range(2000)]
    text = readable(tmp_path, *flood)
    assert "== Errors (2000, " in text
    assert "of them not shown" in text


@pytest.mark.parametrize("before", [0, 10, 5000], ids=["head", "head too", "tail"])
def test_secrets_are_masked_wherever_they_stand(tmp_path: Path, before: int) -> None:
    """Head, errors, tail, failure and modules: nothing gets out by another door."""
    secret = "hunter2hunter2"
    lines = [*FILLER[:before], f"[ERROR] db.password={secret}", f"https://u:{secret}@h/"]
    failure = Failure(**{"class": "test"}, message=f"token={secret}", remedy=f"--password {secret}")
    text = readable(tmp_path, *lines, failure=failure, modules=[ModuleTime(name=f"m password={secret}")])
    assert secret not in text


@pytest.mark.parametrize("gap", [0, 20_000])
def test_no_line_of_a_private_key_gets_out(tmp_path: Path, gap: int) -> None:
    """Even where only the last lines of a key are shown, and its beginning is far above."""
    body = ["MIIEpAIBAAKCAQEA7bq3Zl0kq9w1Xy2Qm4vT8nB6cD5eF7gH9iJ0kL1mN2oP3qR4"] * (3 + gap)
    begin, end = ("-----BEGIN PRIVATE" + " KEY-----", "-----END PRIVATE" + " KEY-----")
    text = readable(tmp_path, *FILLER, begin, *body, end)
    assert body[0] not in text
    assert body[0][:20] not in text


def test_escape_sequences_and_progress_bars_are_cleaned() -> None:
    """A person sees what a terminal would have shown at the end."""
    assert logs.clean("\x1b[1;31mred\x1b[m \x1b]0;title\x07x\n") == "red x"
    assert logs.clean("10%\r50%\r100%\n") == "100%"
    assert logs.clean("a\x00b\x07c\r\n") == "abc"
    assert logs.clean("x" * 1000).endswith("… (600 more characters)")


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"x" * 3_000_000, b"\n" * 150_000, b"\r" * 100_000])
def test_any_bytes_make_a_readable_log(tmp_path: Path, data: bytes) -> None:
    """Empty, binary, one endless line, lines of nothing."""
    (tmp_path / "l").write_bytes(data)
    out = readable_log(tmp_path / "l", facts())
    assert len(out) <= MAXIMUM_READABLE_BYTES
    out.decode()


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from([*ERRORS, "x" * 9000, "é" * 500, "\x1b[", "password=abc12345", ""]), max_size=60)
)
def test_it_is_never_too_long(lines: list[str]) -> None:
    """At most 64 KiB, whatever the log holds."""
    with tempfile.TemporaryDirectory() as folder:
        readable(Path(folder), *(lines * 10), modules=[ModuleTime(name="é" * 300)] * 200)


def test_a_raw_log_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    """The facts are kept all the same."""
    text = readable_log(tmp_path / "none", facts()).decode()
    assert "The raw log cannot be read" in text
    assert "job_1" in text


def test_a_long_log_takes_constant_memory_and_its_lines_are_counted(tmp_path: Path) -> None:
    """20 MB with an error in the middle: under 4 MB of memory, and the right line number."""
    with (tmp_path / "l").open("wb") as file:
        for _ in range(100):
            file.write(b"[INFO] a line of a log that is neither long nor short\n" * 2000)
        file.write(b"[ERROR] the middle\n")
        for _ in range(100):
            file.write(b"[INFO] a line of a log that is neither long nor short\n" * 2000)
    tracemalloc.start()
    try:
        text = readable_log(tmp_path / "l", facts()).decode()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert " 200001  [ERROR] the middle" in text
    assert " 400001  [INFO] a line" in text
    assert peak < 4 << 20


# --- the summary


def test_the_summary_says_what_happened() -> None:
    """Cause, stages, slowest modules and artifacts, in Markdown."""
    artifact = Artifact(name="a_1_all.deb", path="a_1_all.deb", size_bytes=5, checksums={"sha256": "e" * 64})
    manifest = Manifest(
        job_id="job_1", server="build1", branch="b", commit="a" * 40, created_at=NOW, build_dir="",
        artifacts=[artifact], artifact_count=1, total_size_bytes=5,
    )  # fmt: skip
    text = summary_markdown(facts(), manifest)
    assert text.startswith("# ExternalNew at `aaaaaaaaaaaa` failed on build1\n")
    assert "**compile** in `cloud-plugin-hypervisor-xenserver`, line 5001 of the log:" in text
    assert "147 of 147 modules" in text
    assert f"`{'e' * 64}`" in text
    assert text.index("Apache CloudStack 146") < text.index("Apache CloudStack 145")
    assert "Apache CloudStack 10 " not in text


def test_nothing_in_the_summary_breaks_its_form() -> None:
    """Signs of Markdown in names stay text, and secrets are masked."""
    text = summary_markdown(
        facts(branch="a|b`c", modules=[ModuleTime(name="x | y\nz", duration_seconds=1.0)], failure=None)
    )
    assert "a\\|b\\`c" in text
    assert "| x \\| y z | 1.0 |" in text
    hidden = Failure(**{"class": "test"}, message="x.password=hunter22")
    assert "hunter22" not in summary_markdown(facts(failure=hidden))


# --- the structured log


def writer(tmp_path: Path) -> StructuredLogWriter:
    return StructuredLogWriter(tmp_path / "log.json", IDENTITY, ManualClock(NOW))


def test_events_become_the_canonical_record(tmp_path: Path) -> None:
    """What was written is what is read, and nothing else is left in the folder."""
    log_ = writer(tmp_path)
    log_.event("info", "stage", name="maven", seconds=1.5)
    record = log_.close("success", 0, 12.5)
    assert load(StructuredLog, (tmp_path / "log.json").read_bytes(), "l") == record
    assert (tmp_path / "log.json").read_bytes() == dump(record)
    assert record.events[0].details == {"name": "maven", "seconds": 1.5}
    assert (record.status, record.exit_code, record.duration_seconds) == ("success", 0, 12.5)
    assert [path.name for path in tmp_path.iterdir()] == ["log.json"]


@pytest.mark.parametrize("cut", [0, 1, 10, 100])
def test_a_killed_writer_leaves_a_valid_log(tmp_path: Path, cut: int) -> None:
    """Every whole event before the end is there; a torn last line is left out."""
    with writer(tmp_path) as log_:
        for number in range(5):
            log_.event("info", f"event {number}")
    lines = tmp_path / "log.jsonl"
    data = lines.read_bytes()
    lines.write_bytes(data[: len(data) - cut])
    record = recover(lines)
    assert record.status == "unknown"
    assert [event.message for event in record.events] == [f"event {n}" for n in range(5)][
        : len(record.events)
    ]
    assert len(record.events) == (5 if cut <= 1 else 4 if cut < 70 else len(record.events))


@given(st.binary(max_size=400))
def test_no_left_over_bytes_make_a_traceback(data: bytes) -> None:
    """Recovering from anything is a record or RecordInvalid."""
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "l.jsonl"
        header = json.dumps({**IDENTITY, "started_at": "2026-01-02T03:04:05Z"}).encode()
        lines.write_bytes(data)
        with pytest.raises(RecordInvalid):
            recover(lines)
        lines.write_bytes(header + b"\n" + data)
        assert recover(lines).job_id == "job_1"


def test_a_missing_log_is_an_invalid_record(tmp_path: Path) -> None:
    """No file, no header: the error names it."""
    with pytest.raises(RecordInvalid, match=r"none\.jsonl"):
        recover(tmp_path / "none.jsonl")


def test_events_are_bounded_and_errors_come_before_the_rest(tmp_path: Path) -> None:
    """A flood is cut, a later error is still written, and what was left out is counted."""
    log_ = writer(tmp_path)
    for number in range(MAXIMUM_EVENTS + 500):
        log_.event("info", f"{number}")
    log_.event("error", "the cause")
    record = log_.close("failed", 1, None)
    assert len(record.events) == MAXIMUM_EVENTS + 2
    assert record.events[-2].message == "the cause"
    assert record.events[-1].message == "500 more events were left out"


def test_texts_are_masked_and_cut(tmp_path: Path) -> None:
    """Messages and details are for history: short, and without secrets."""
    log_ = writer(tmp_path)
    log_.event("info", "x.password=hunter22 " + "y" * 5000, detail="token=abcdefgh12345678", deep={"a": "b"})
    (event,) = log_.close("success", 0, 1.0).events
    assert "hunter22" not in event.message
    assert len(event.message) < 1100
    assert "abcdefgh" not in event.details["detail"]


def test_a_full_disk_loses_events_and_not_the_build(tmp_path: Path) -> None:
    """Nothing is raised: the header is known, and what was lost is lost."""
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    log_ = writer(tmp_path)
    log_.event("error", "lost")
    (tmp_path / "log.jsonl").unlink()
    (tmp_path / "log.jsonl").write_bytes(b"")
    record = log_.close("failed", 1, None)
    assert (record.job_id, record.status, record.events) == ("job_1", "failed", [])
