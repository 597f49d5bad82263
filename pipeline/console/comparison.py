"""A comparison shown: its reports are all made of the one record, and its verdict is the exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.console.comparison_text import comparison_lines
from pipeline.console.styled import room, show_lines
from pipeline.console.terminal import show_json
from pipeline.errors import VERDICT_EXIT_CODES, FileFailed, UsageError
from pipeline.records.comparison import Comparison

#: Given as a file's name, it means standard output.
STANDARD_OUTPUT = "-"


@dataclass(frozen=True)
class Reports:
    """Which reports are wanted: the form that is printed, and the other forms' files as they were typed."""

    printed: str
    files: Mapping[str, str]


def reports_wanted(as_json: bool, **places: str) -> Reports:
    """Returns where the reports go, by form; `text` is printed where no other form is.

    Raises UsageError where two forms would share standard output or a file.
    """
    given = {form: place for form, place in places.items() if place}
    printed = ["json"] if as_json else []
    printed += [form for form, place in given.items() if place == STANDARD_OUTPUT]
    files = {form: place for form, place in given.items() if place != STANDARD_OUTPUT}
    if len(printed) > 1:
        told = " and ".join(f"--{each}" for each in printed)
        raise UsageError(
            f"Only one report can go to standard output, not {told}.",
            remedy=f"Give a file to --{printed[-1]}.",
        )
    if len(set(files.values())) < len(files):
        raise UsageError(
            f"{' and '.join(f'--{form}' for form in files)} name the same file.",
            remedy="Give each its own.",
        )
    return Reports(printed[0] if printed else "text", files)


def show_comparison(
    found: Comparison, printed: str = "text", files: Mapping[str, Callable[[bytes], None]] | None = None
) -> int:
    """Prints one report of a comparison and writes others; returns the exit code of its verdict.

    Raises FileFailed, which also tells the verdict, where a file cannot be written after all.
    """
    for form, write in (files or {}).items():
        try:
            write(rendered(found, form).encode())
        except FileFailed as exc:
            more = f"{exc.message} The comparison itself ended with {found.verdict}."
            raise FileFailed(more, remedy=exc.remedy) from exc
    if printed == "text":
        show_lines(comparison_lines(found, room()))
    elif printed == "json":
        show_json(found.model_dump(mode="json"))
    else:
        print(rendered(found, printed), end="")  # nothing is in it but what prints
    return VERDICT_EXIT_CODES[str(found.verdict)]


def rendered(found: Comparison, form: str) -> str:
    """Returns a report of the form `markdown` or `html`."""
    if form == "markdown":
        from pipeline.console.comparison_markdown import markdown

        return markdown(found)
    from pipeline.console.comparison_page import page

    return page(found)
