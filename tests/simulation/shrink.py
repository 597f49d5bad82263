"""Makes a failing run smaller: fewer commands, fewer machines, fewer faults, as long as it fails so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.simulation.mutants import planted
from tests.simulation.world import Plan, Result, play


def fails(plan: Plan, mutant: str | None = None, *, chatty: bool = False) -> Result:
    """Runs a plan with a mutant planted, or with none."""
    with planted(mutant):
        return play(plan, chatty=chatty)


def shrink(
    result: Result, mutant: str | None = None, say: Callable[[str], None] = lambda text: None
) -> Result:
    """Returns the smallest failing run that is found, of the same invariant."""
    best = result

    def attempt(plan: Plan) -> bool:
        nonlocal best
        tried = fails(plan, mutant)
        if tried.violated != result.violated or (
            plan.commands >= best.plan.commands and tried.steps > 2 * best.steps
        ):
            return False
        best = tried
        say(
            f"{plan.nodes} machines, {plan.commands} commands, {len(plan.faults)} faults, {tried.steps} steps"
        )
        return True

    while best.plan.nodes > 2 and attempt(replace(best.plan, nodes=best.plan.nodes - 1)):
        pass
    for part in (4, 2, 1.3):
        while best.plan.commands > 4 and attempt(replace(best.plan, commands=int(best.plan.commands / part))):
            pass
    for fault in best.plan.faults:
        attempt(replace(best.plan, faults=tuple(each for each in best.plan.faults if each != fault)))
    return best


def command_of(plan: Plan, mutant: str | None) -> str:
    """Returns the one command that replays a run."""
    from tests.simulation.faults import VIRTUAL

    words = [f"python -m tests.simulation --replay {plan.seed} --profile {plan.profile}"]
    words.append(f"--nodes {plan.nodes} --commands {plan.commands}")
    without = [name for name in VIRTUAL if name not in plan.faults]
    words += [f"--without {','.join(without)}"] if without else []
    words += [f"--mutant {mutant}"] if mutant else []
    return " ".join(words)


def story(plan: Plan, mutant: str | None = None) -> str:
    """Returns a run as a readable story, which ends with the verdict and the command that tells it again."""
    result = fails(plan, mutant, chatty=True)
    verdict = f"{result.violated}: {result.detail}" if result.violated else "everything held"
    counts = f"{result.steps} steps, {result.commits} commits, {result.seconds:.3f} simulated seconds"
    return "\n".join([*result.story, verdict, counts, command_of(plan, mutant)]) + "\n"
