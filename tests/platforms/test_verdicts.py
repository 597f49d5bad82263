"""Each branch of the sample that is there for its verdict, built by both builders and compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.test_main_job import invoke

pytestmark = [
    pytest.mark.maven,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("mvn") is None, reason="Maven is not installed: ./bootstrap installs it"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for all of them, so that what Maven fetches is fetched once."""
    return tmp_path_factory.mktemp("verdicts") / "home"


@pytest.mark.parametrize(
    ("branch", "code", "verdicts"),
    [
        ("ExternalNew", 0, ("AGREE",)),
        ("differs-time", 3, ("AGREE-NORMALISED",)),
        ("differs-random", 88, ("DIFFER",)),
        ("differs-inputs", 89, ("INCOMPARABLE",)),
        ("lacks-package", 87, ("INCOMPLETE",)),
    ],
)
def test_the_verdict_is_the_branchs(
    place: Path, branch: str, code: int | None, verdicts: tuple[str, ...]
) -> None:
    """Both build it, the second in an environment of its own, and the verdict is what the branch is for."""
    built = invoke(place, "build", "--branch", branch, "--json")
    assert built.returncode == 0, built.stderr
    done = invoke(place, "compare", "--json")
    found = json.loads(done.stdout)
    assert found["left_build"]["job_id"] == json.loads(built.stdout)["job_id"]
    assert found["verdict"] in verdicts, done.stdout
    assert code in (None, done.returncode)
