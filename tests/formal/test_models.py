"""The models hold, exhaustively for two and three nodes; every mutant breaks the invariant that it should.

Without `--size` only the quickest searches run; `--size medium` runs what CI checks, `large` all.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pipeline.coordination.leases import silence_needed, trust_ends
from tests.formal import spin
from tests.formal.models import AS_IT_IS, EVERY, FLAWS, LARGE, MUTANTS, Run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/model.md").read_text()
SIZES = ("small", "medium", "large")
MODELS = ("transaction", "lease")

#: What bounds a model without leaving a rule out.
BOUNDS = {
    "NODES",
    "LEADERS",
    "SESSIONS",
    "KILLS",
    "BREAKS",
    "UNKNOWNS",
    "HOOKS",
    "FULL",
    "COPY",
    "CLOCKS",
    "TIMELY",
}
#: What a model needs for itself.
OWN = {"BREADTH_FIRST", "BY_NUMBER"}

needs_spin = pytest.mark.skipif(bool(spin.missing()), reason=f"not installed: {', '.join(spin.missing())}")


def named(run: Run) -> str:
    return f"{run.model}-{run.nodes}-{run.bounds.strip().replace(' ', ',')}"


def skip_if_larger(run: Run, size: str) -> None:
    if SIZES.index(run.size) > SIZES.index(size):
        pytest.skip(f"--size {run.size} runs it")


@needs_spin
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("run", [*AS_IT_IS, *LARGE], ids=named)
def test_model_holds(run: Run, size: str, tmp_path: Path) -> None:
    """Every state within the bounds was visited, and no invariant fails in any."""
    skip_if_larger(run, size)
    result = run.check(tmp_path)
    assert result.violated is None, f"after {result.steps} steps"
    assert result.states > 10_000


@needs_spin
@pytest.mark.parametrize("run", [*MUTANTS, *FLAWS], ids=named)
def test_mutant_breaks_the_model(run: Run, size: str, tmp_path: Path) -> None:
    """The invariant that the rule keeps fails without it, and no other fails first."""
    skip_if_larger(run, size)
    result = run.check(tmp_path)
    assert result.violated == run.breaks
    assert result.steps > 0


@needs_spin
def test_a_search_that_was_cut_short_is_no_verdict(tmp_path: Path) -> None:
    """Where memory does not suffice for all states, that is said."""
    with pytest.raises(spin.Incomplete):
        spin.check("transaction", ["NODES=3"], "states", tmp_path, megabytes=24)


def test_the_models_times_are_the_products() -> None:
    """A ttl of 3 with a drift of a third is what the model says it is, by the product's own arithmetic."""
    text = (spin.FOLDER / "lease.pml").read_text()
    clocks, worst = re.findall(r"#else\n#define TRUST (\d)\n#define SILENCE (\d)\n", text)
    trust, silence = trust_ends(0.0, 3.0, 1 / 3, 0.0), silence_needed(3.0, 1 / 3, 0.0)
    assert clocks == (f"{trust:.0f}", f"{silence:.0f}")
    assert worst == (f"{trust / (1 - 1 / 3):.0f}", f"{silence / (1 + 1 / 3):.0f}")


def test_every_switch_is_a_mutant_or_a_flaw() -> None:
    """No rule can be left out of a model that nobody shows to matter."""
    tried = {word.partition("=")[0] for run in EVERY for word in run.bounds.split()}
    for model in MODELS:
        text = (spin.FOLDER / f"{model}.pml").read_text()
        switches = set(re.findall(r"^#if(?:n?def| !?defined\() ?(\w+)", text, re.MULTILINE))
        switches |= set(re.findall(r"defined\((\w+)\)", text))
        assert switches - tried - BOUNDS - OWN == set(), model


def test_no_invariant_is_idle() -> None:
    """Each is broken by at least one mutant, and has a name."""
    for model in MODELS:
        text = (spin.FOLDER / f"{model}.pml").read_text()
        unnamed = [
            n for n, line in enumerate(text.splitlines(), 1) if "assert(" in line and "/* " not in line
        ]
        broken = {run.breaks for run in [*MUTANTS, *FLAWS] if run.model == model}
        assert spin.invariants(model) - broken == set()
        assert [n for n in unnamed if "new_writer" not in text.splitlines()[n - 1]] == []


def test_the_page_names_every_mutant_and_invariant() -> None:
    """What the models check and what breaks them can be looked up."""
    names = {run.name for run in [*MUTANTS, *FLAWS]} | {str(run.breaks) for run in [*MUTANTS, *FLAWS]}
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


def test_the_page_names_functions_that_exist() -> None:
    """The functions that the page sets beside the models are in the code, and the steps in the models."""
    code = re.findall(r"`(\w+/\w+\.py)` `([\w.]+)`", PAGE)
    assert len(code) > 20
    assert [pair for pair in code if not has_function(ROOT / "pipeline" / pair[0], pair[1])] == []
    for model in MODELS:
        text = (spin.FOLDER / f"{model}.pml").read_text()
        steps = re.findall(rf"`{model}: ([\w ]+)`", PAGE)
        assert steps
        assert [step for step in steps if step not in text] == []


def has_function(source: Path, name: str) -> bool:
    """Says whether a module has this function, method (`Class.method`) or class."""
    nodes: list[ast.stmt] = ast.parse(source.read_text()).body
    for part in name.split("."):
        found = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part]
        if not found:
            return False
        nodes = found[0].body
    return True
