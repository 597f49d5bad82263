"""A comparison shown: its reports are all made of the one record, and its verdict is the exit code."""

from __future__ import annotations

from pipeline.console.comparison_text import comparison_lines
from pipeline.console.styled import room, show_lines
from pipeline.console.terminal import show_json
from pipeline.errors import VERDICT_EXIT_CODES
from pipeline.records.comparison import Comparison


def show_comparison(found: Comparison, as_json: bool) -> int:
    """Shows a comparison; returns the exit code of its verdict."""
    if as_json:
        show_json(found.model_dump(mode="json"))
    else:
        show_lines(comparison_lines(found, room()))
    return VERDICT_EXIT_CODES[str(found.verdict)]
