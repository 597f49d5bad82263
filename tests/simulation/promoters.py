"""People and builders around promotion, each a program that uses the product's own operations."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pipeline.errors import FileFailed
from pipeline.operations import policy as policies
from pipeline.operations import secret
from pipeline.operations import site as sites
from pipeline.operations.promote import promote as promote_set
from pipeline.operations.promote import rollback
from pipeline.operations.promoted import branch_folder, verify_set
from pipeline.operations.site import Site
from pipeline.operations.trust import DRAFT, write_durably
from pipeline.records.base import dump
from pipeline.records.decisions import View
from pipeline.records.policy import Policy
from pipeline.records.statements import made
from tests.simulation.actors import command
from tests.simulation.builds import MAKER
from tests.simulation.comparing import offered, order_of
from tests.simulation.dice import Dice
from tests.simulation.node import Node
from tests.simulation.scheduler import Program

if TYPE_CHECKING:
    pass
from tests.simulation.promoting import (
    OPEN,
    OPERATOR,
    SECRET,
    Campaign,
    Promoting,
    installed,
    promoting,
    some_campaign,
)

# ---------------------------------------------------------------- builders


@command
def campaign(node: Node, program: Program, site: Site, dice: Dice) -> None:
    """Has builders build a commit: in a round, where the policy asks for one."""
    mine = promoting(node)
    of = mine.next_campaign(dice.pick((OPEN, SECRET, SECRET)))
    names = [each.name for each in sites.registry(site.state(fresh=False).view).builders]
    names = [name for name in names if len(names) < 3 or not dice.chance(0.07)]
    jobs = mine.order(site, of, names, retries=dice.below(2))
    if of.branch == SECRET and len(jobs) > 1 and dice.chance(0.9):
        secret.open_round(site, f"round_{site.random.op()}", list(jobs.values()))


@command
def outside(node: Node, program: Program, site: Site, dice: Dice) -> None:
    """Orders a build of a campaign's commit that takes part in no round."""
    mine = promoting(node)
    if mine.campaigns:
        of = dice.pick(mine.campaigns[-2:])
        request = {"kind": "job.create", "id": f"job_{site.random.op()}", "branch": of.branch}
        site.ask({**request, "commit": of.commit, "target": site.builder})


@command
def tend(node: Node, program: Program, site: Site, dice: Dice) -> None:
    """Reveals what this builder has sealed, and signs what it built and has not signed by this policy."""
    promoting(node).tend(node, site)


# ---------------------------------------------------------------- who promotes


@command
def promote_build(node: Node, program: Program, site: Site, dice: Dice) -> None:
    """Compares what builders made, and promotes it if they agree."""
    mine = promoting(node)
    if not mine.campaigns:
        return
    MAKER.set(program.name)
    view = site.state().view
    order = order_of(node, view, some_campaign(mine, view, dice, 2), dice)
    if order is not None and order.comparisons:
        done = promote_set(site, mine.trust(node), mine.notary.signer(OPERATOR), order, installed)
        node.world.tell(f"{program.name}: promoted {done.entry.branch} number {done.entry.number}")


@command
def roll_back(node: Node, program: Program, site: Site, dice: Dice) -> None:
    """Goes back to a set that was promoted before, where it still lies."""
    MAKER.set(program.name)
    mine, branch = promoting(node), dice.pick((OPEN, SECRET))
    here = branch_folder(site.settings.promoted, branch)
    numbers = sorted(one.name for one in here.iterdir() if one.name.isdigit()) if here.is_dir() else []
    if numbers:
        number = int(dice.pick(numbers))
        with suppress(FileFailed):
            done = rollback(site, mine.trust(node), mine.notary.signer(OPERATOR), branch, number, installed)
            node.world.tell(f"{program.name}: rolled back to number {number} as {done.entry.number}")


@command
def verify(node: Node, program: Program, site: Site, dice: Dice) -> None:
    """A user of the packages verifies what some machine offers as promoted."""
    folder = offered(node.world, dice)
    if folder is not None:
        found: Any = folder
        verify_set(found, promoting(node).trust(node, "user"))
        promoting(node).believes(folder)


# ---------------------------------------------------------------- the operator


@command
def revoke(node: Node, program: Program, site: Site, dice: Dice) -> None:
    """The operator revokes a builder's key; the next policy has another one for it."""
    mine = promoting(node)
    if mine.operator_is_busy or sum(mine.lost_keys.values()) >= 3:
        return
    _be_operator(mine, program)
    builder = dice.pick(sorted({each.builder for each in node.world.nodes}))
    print_ = mine.key(builder).fingerprint
    policies.revoke(site, mine.trust(node), mine.root, print_, "lost")
    mine.lost_keys[builder] += 1


@command
def new_policy(node: Node, program: Program, site: Site, dice: Dice) -> None:
    """The operator signs another policy: new keys, another k, dissent that is dismissed; and hands it out."""
    mine, trust = promoting(node), promoting(node).trust(node)
    if mine.operator_is_busy:
        return
    _be_operator(mine, program)
    view = site.state().view
    rules = policies.rules_of(view, trust)
    if rules.policy.number < mine.in_force:
        return
    what = dice.pick(("keys", "k", "dismiss", "dismiss", "second"))
    if what == "k":
        mine.k = dice.pick((2, 2, 3))
    elif what == "second":
        mine.with_two_keys.add(dice.pick(sorted({each.builder for each in node.world.nodes})))
    elif what == "dismiss" and mine.campaigns:
        found = _dissent(view, dice.pick(mine.campaigns[-4:]), mine)
        mine.dismissed += [each for each in found if each not in mine.dismissed]
    mine.drafted += 1
    number = rules.revocations.number if rules.revocations else 0
    write_durably(trust.folder / DRAFT, dump(made(Policy, mine.policy(mine.drafted, number))))
    signed = policies.sign(trust, mine.root)
    mine.in_force = signed.number
    node.world.tell(f"{program.name}: policy number {signed.number}")
    mine.hand_out(node)


def _be_operator(mine: Promoting, program: Program) -> None:
    """There is one operator, who does one thing at a time."""
    mine.operator_is_busy = True
    program.closers.append(lambda: setattr(mine, "operator_is_busy", False))


def _dissent(view: View, of: Campaign, mine: Promoting) -> list[str]:
    """Returns the statements of a campaign in which a disk was broken: the operator has looked at it."""
    from pipeline.coordination.trust import attestations

    honest: Counter[str] = Counter()
    found = attestations(view, of.commit)
    for said, _ in found.values():
        honest[str(sorted(said.artifacts.items()))] += 1
    usual = max(honest, key=lambda each: honest[each], default="")
    return sorted({digest for said, digest in found.values() if str(sorted(said.artifacts.items())) != usual})
