"""The generated pages: those that are committed are those of the code."""

from __future__ import annotations

from pathlib import Path

from pipeline.console.reference import FOLDER, exit_codes_page, files_page, generate, main, tasks_page
from pipeline.records.schemas import STATE_FILES, drift

TASKS = '''
from invoke import Collection, task


@task(aliases=["make"], help={"branch": "Which | branch", "keep_going": "Go on"})
def build(context, branch, keep_going=False, on="here"):
    """Builds a branch.

    All of it.
    """


@task
def show(context, job):
    """Shows a job."""


namespace = Collection(build)
namespace.add_collection(Collection("job", show))
'''


def test_committed_pages_are_those_of_the_code() -> None:
    """A change of an error, a record or a task without its page is noticed."""
    assert drift(generate(), FOLDER) == []
    assert main(["--check"]) == 0


def test_exit_codes_are_shown_with_their_errors() -> None:
    """The page has a row for an error at the top, one below another, and one for a failure class."""
    page = exit_codes_page()
    assert "| 60 | `PreflightFailed` | something the build needs is missing; nothing was recorded |" in page
    assert "| 42 | &emsp;`LeaseHeld` | somebody else holds it |" in page
    assert "| 74 | `compile` |" in page


def test_every_state_file_is_shown_with_its_schema() -> None:
    """Each file has a row that links to its schema, and a section for its record."""
    page = files_page()
    for file in STATE_FILES:
        assert f"`{file.path}` | [{file.record.__name__}](#" in page
        assert f"(schemas/{file.name}.json)" in page
        assert f"\n## {file.record.__name__}\n" in page


def test_fields_are_shown_by_the_names_of_the_file() -> None:
    """Names on the wire, types, and what an absent field means."""
    page = files_page()
    assert "| `from` | string | **refused** |" in page
    assert '| `profiles` | list of string | `["systemvm", "developer"]` |' in page
    assert "| `current_job` | [CurrentJob](#currentjob) or null | `null` |" in page
    assert '| `status` | `idle` or `building` or `failed` or `success` | `"idle"` |' in page


def test_tasks_are_shown_with_their_options(tmp_path: Path) -> None:
    """Each task has its words, its other names and its options."""
    (tmp_path / "tasks.py").write_text(TASKS)
    page = tasks_page(tmp_path)
    assert page is not None
    assert "## `build BRANCH`\n\nBuilds a branch.\n\nAll of it.\n\nAlso: `make`.\n" in page
    assert "| `-k, --keep-going` | Go on |" in page
    assert "Which \\| branch" in page
    assert "## `job.show JOB`\n\nShows a job.\n" in page


def test_without_tasks_there_is_no_page_of_tasks(tmp_path: Path) -> None:
    """A checkout without `tasks.py` has no such page, and no error."""
    assert tasks_page(tmp_path) is None
