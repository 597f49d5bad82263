"""Text for a terminal or a pipe: tables, times, sizes, and the one place where an error becomes words."""

from __future__ import annotations

import functools
import gc
import io
import json
import os
import shutil
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, ParamSpec, TextIO, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: A variable that makes a defect show where it happened.
TRACEBACK_VARIABLE = "PIPELINE_TRACEBACK"
_NARROWEST = 12
#: Python's own 700 have it look for garbage dozens of times while a few records are compiled. This is 5 MB.
_OBJECTS_BETWEEN_COLLECTIONS = 50_000
#: What an error may say beside its words, for programs.
_FIELDS = ("path", "field", "line", "rule", "reason")


def told(body: Callable[P, T]) -> Callable[P, T]:
    """Makes a task end with its error's words on stderr and its error's exit code, and never a traceback.

    With `--json` the error is one JSON object on stdout as well: `{"error": {"name", "exit_code", "message",
    "remedy"}}`, with `path` and `field` of a state file, the ledger's `reason`, or the `field`, `line` and
    `rule` of a secret, where there is one.
    """

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        # Invoke forbids Python to keep what it compiles, and then all is compiled again at every command.
        sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
        gc.disable()  # until all is imported: none of it is garbage, and looking takes long

        from pipeline.errors import Interrupted, PipelineError

        as_json = kwargs.get("json") is True
        try:
            _open_streams()
            _insist_on_text(kwargs)
            try:
                return body(*args, **kwargs)
            finally:
                sys.stdout.flush()  # here, where a full disk or a closed pipe can still be said
        except PipelineError as exc:
            _fail(exc, as_json)
        except KeyboardInterrupt:
            _fail(Interrupted("Interrupted."), as_json)
        except BrokenPipeError:
            _to_nowhere(sys.stdout)
            sys.exit(128 + signal.SIGPIPE)  # the reader went away: `| head`
        except OSError as exc:
            _fail(_of_os_error(exc), as_json)
        except Exception as exc:
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            _fail(_defect(exc), as_json)
        finally:
            collect_from_now_on()

    return run


def _open_streams() -> None:
    """Makes both outputs take any text: a letter that the locale lacks as an escape; a closed one, all.

    The number of a closed stream is free, standard input's too: the next file that is opened would get it,
    and what a program of ours prints would land there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(nowhere, True)
            setattr(sys, name, os.fdopen(nowhere, "w" if number else "r", encoding="utf-8"))
        elif number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def collect_from_now_on() -> None:
    """Has cyclic garbage collected again, but for what is there already: all modules are imported."""
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    gc.enable()


def _fail(error: Any, as_json: bool) -> NoReturn:
    from pipeline.errors import exit_code_of

    code = exit_code_of(error)
    say(f"Error: {error}")
    if as_json:
        more = {name: getattr(error, name) for name in _FIELDS if hasattr(error, name)}
        shown = {"name": type(error).__name__, "exit_code": code, "message": error.message}
        try:
            show_json({"error": {**shown, "remedy": error.remedy, **more}})
            sys.stdout.flush()
        except OSError:
            _to_nowhere(sys.stdout)
    sys.exit(code)


def _of_os_error(exc: OSError) -> Exception:
    import errno

    from pipeline.errors import FileFailed

    try:
        sys.stdout.flush()
    except OSError:
        _to_nowhere(sys.stdout)  # it was the output itself; Python would complain again at exit
    remedies = {
        errno.ENOSPC: "Free space on that disk, then run the same command again.",
        errno.EDQUOT: "Free space within this user's quota, then run the same command again.",
        errno.EROFS: "Choose another place for it: `invoke config` shows every setting.",
        errno.EACCES: "Give this user access to it, or choose another place: `invoke config`.",
    }
    what = f"`{exc.filename}`" if exc.filename else "A file operation"
    return FileFailed(f"{what}: {exc.strerror or exc}.", remedy=remedies.get(exc.errno or 0))


def _defect(exc: Exception) -> Exception:
    from pipeline.errors import PipelineError

    words = f"{type(exc).__name__}: {exc}".strip().splitlines()[0][:300]
    return PipelineError(
        f"A defect of the pipeline, {words}",
        remedy=f"Report it with what the same command prints under {TRACEBACK_VARIABLE}=1.",
    )


def _insist_on_text(given: Any) -> None:
    """Refuses arguments that are not UTF-8: they could be neither recorded nor shown."""
    from pipeline.errors import UsageError

    for name, value in given.items():
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                shown = name.replace("_", "-")
                raise UsageError(f"The value of `{shown}` is not UTF-8 text: {value!a}.") from None


def _to_nowhere(stream: TextIO) -> None:
    """Sends what is left to nowhere: Python flushes once more at exit."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a device, for its descriptor)
        os.dup2(nowhere.fileno(), stream.fileno())


def say(text: str) -> None:
    """Shows progress. Where nobody reads it any more, or the disk of a log is full, nothing ends for that."""
    try:
        print(printable(text, lines=True), file=sys.stderr, flush=True)
    except OSError:
        _to_nowhere(sys.stderr)


def put(text: str = "") -> None:
    """Prints a result for a person: whatever a ledger or a manifest says, nothing steers the terminal."""
    print(printable(text, lines=True))


def put_log(text: str) -> None:
    """Prints a log as it is; on a terminal, without what would steer it."""
    sys.stdout.write(printable(text, lines=True) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def show_json(value: Any) -> None:
    """Prints one JSON value. What is no printable character is an escape; without UTF-8, all but ASCII is."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=not unicode)
    if not text.replace("\n", "").isprintable():
        text = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    print(text)


def printable(text: str, *, lines: bool = False) -> str:
    """Returns text in which nothing steers a terminal: control characters become spaces or `?`.

    With `lines`, line ends and tabs stay.
    """
    return "".join(
        char if char.isprintable() or (lines and char in "\n\t") else " " if char.isspace() else "?"
        for char in text
    )


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Prints a table. A pipe gets whole cells; on a terminal the last column is cut where it is too wide.

    No other column is: an id of which a part is missing is of no use, and a terminal folds long lines itself.
    """
    listed = [[printable(str(cell)) for cell in row] for row in rows]
    if not listed:
        if empty:
            print(empty)
        return
    widths = [max(map(width_of, column)) for column in zip(columns, *listed, strict=True)]
    room = None
    if sys.stdout.isatty():
        room = max(_NARROWEST, shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * len(widths[:-1]))
    for row in (columns, *listed):
        cells = [cell + " " * (width - width_of(cell)) for cell, width in zip(row, widths, strict=True)]
        cells[-1] = row[-1] if room is None else _cut(row[-1], room)
        print("  ".join(cells).rstrip())


def width_of(text: str) -> int:
    """Returns how many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def _cut(text: str, room: int) -> str:
    if width_of(text) <= room:
        return text
    while text and width_of(text) > room - 1:
        text = text[:-1]
    return text + "…"


def duration(seconds: float | None) -> str:
    """Returns `1 h 02 min`, `3 min 25 s` or `4.2 s`."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(octets: int) -> str:
    """Returns `144.2 MB`: decimal units, as disks are sold."""
    value = float(octets)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
