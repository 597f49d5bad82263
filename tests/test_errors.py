"""The error tree: drawn as it is, with one exit code for each error."""

from __future__ import annotations

import pytest

from pipeline import errors
from pipeline.console.reference import drawn_tree
from pipeline.errors import (
    FAILURE_EXIT_CODES,
    VERDICT_EXIT_CODES,
    BuildFailed,
    ComparisonIncomplete,
    PipelineError,
    RecordInvalid,
    exit_code_of,
)
from pipeline.records.builds import FailureClass
from pipeline.records.comparison import Verdict


def tree(error: type[PipelineError] = PipelineError, depth: int = 0) -> list[tuple[int, str, int]]:
    """Returns depth, name and exit code of every error of the product, in the order of the code."""
    found = [(depth, error.__name__, error.exit_code)]
    for kind in error.__subclasses__():
        if kind.__module__ == errors.__name__:
            found += tree(kind, depth + 1)
    return found


def test_the_drawn_tree_is_the_tree() -> None:
    """The tree at the top of `errors` has every error in its place, with its exit code."""
    assert [(line.depth, line.name, line.exit_code) for line in drawn_tree()] == tree()


def test_every_error_has_an_exit_code_of_its_own() -> None:
    """An exit code says which error it was, and for a build of which class."""
    codes = [code for _depth, _name, code in tree()]
    codes += [code for name, code in FAILURE_EXIT_CODES.items() if name != "unknown"]
    codes += [code for name, code in VERDICT_EXIT_CODES.items() if name != "INCOMPLETE"]
    assert len(codes) == len(set(codes))
    assert FAILURE_EXIT_CODES["unknown"] == BuildFailed.exit_code
    assert VERDICT_EXIT_CODES["INCOMPLETE"] == ComparisonIncomplete.exit_code


def test_every_verdict_has_an_exit_code() -> None:
    """No verdict ends with another's code, and only agreement bit for bit ends with 0."""
    assert set(VERDICT_EXIT_CODES) == {str(word) for word in Verdict}
    assert [name for name, code in VERDICT_EXIT_CODES.items() if code == 0] == ["AGREE"]


def test_exit_codes_fit_where_a_shell_reads_them() -> None:
    """Codes lie between 1 and 125, but for Ctrl-C's: the others mean something to a shell."""
    codes = {code for _depth, _name, code in tree()} | set(FAILURE_EXIT_CODES.values())
    assert {code for code in codes if not 1 <= code <= 125} == {130}


def test_every_failure_class_has_an_exit_code() -> None:
    """No class of failure ends with another's code."""
    assert set(FAILURE_EXIT_CODES) == {str(word) for word in FailureClass}


@pytest.mark.parametrize("name", FAILURE_EXIT_CODES)
def test_a_failed_build_ends_with_the_code_of_its_class(name: str) -> None:
    """The exit code of a failed build says why it failed."""
    assert exit_code_of(BuildFailed("x", failure_class=name)) == FAILURE_EXIT_CODES[name]


def test_a_class_that_is_not_known_ends_like_an_unknown_failure() -> None:
    """A failure class of a newer version has the general code."""
    assert exit_code_of(BuildFailed("x", failure_class="from-the-future")) == 70


def test_the_remedy_is_part_of_what_a_person_reads() -> None:
    """The text of an error ends with the next step, where there is one."""
    assert str(PipelineError("It broke.", remedy="Mend it.")) == "It broke.\n  Remedy: Mend it."
    assert str(PipelineError("It broke.")) == "It broke."


def test_a_file_that_cannot_be_read_is_named_with_its_field() -> None:
    """RecordInvalid names file and field, and keeps both apart for programs."""
    error = RecordInvalid("coordination/jobs.json", "jobs.3.branch", "missing", remedy="r")
    assert error.message == "`coordination/jobs.json`, field `jobs.3.branch`: missing"
    assert (error.path, error.field, error.problem, error.remedy) == (
        "coordination/jobs.json",
        "jobs.3.branch",
        "missing",
        "r",
    )
    assert RecordInvalid("a.json", "", "empty").message == "`a.json`: empty"
