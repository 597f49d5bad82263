"""What the checker still promises after a rewind, and what it lets pass: each rule alone, without a world."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.ledger.chain import Item
from pipeline.records.jobs import Jobs
from pipeline.records.ledger import Evidence, LedgerState
from pipeline.records.locks import Lock, Locks, Token
from pipeline.records.messages import Mailbox, Messages
from tests.coordination.world import NOW
from tests.simulation.checker import Checker, Link
from tests.simulation.invariants import History, State, Step, Violated, grants
from tests.simulation.invariants.tokens import tokens_increase
from tests.simulation.witness import Asked, Witness
from tests.simulation.world import World

TOKEN = "1.5.op"
OK = {"ok": True, "value": {}}
REFUSED = {"ok": False, "reason": "held", "message": "It is held."}


def state(*holders: str, lock: str = "a") -> State:
    """A state in which the lock is held, by the last of so many holders."""
    locks = [Lock(name=lock, owner="build1", timestamp=NOW, token=TOKEN, holder=each) for each in holders]
    return State(Jobs(), Locks(locks=locks), cast(LedgerState, None), Messages(), Mailbox())


def given_again(first: str, second: str, *, lost: bool, told: bool, lock: str = "a") -> None:
    """The token is given to one holder in one commit, and to another in the next that gives it."""
    step = SimpleNamespace(
        commit="again", before=state(), after=state(second, lock=lock),
        highest=Token(1, 4, "-"), history=History(),
        lost=lambda commit: lost, untold=lambda op, commit, again: lost and not told,
        record=SimpleNamespace(ordinal=9),
    )  # fmt: skip
    step.history.tokens[TOKEN] = {"first": grants(state(first))[TOKEN]}
    tokens_increase(cast(Step, step))


@pytest.mark.parametrize(("second", "told"), [("h1", False), ("h1", True), ("h2", False)])
def test_a_token_comes_again_only_after_a_rewind(second: str, told: bool) -> None:
    """A rewind lets its operation have it again: in the same hands, or if nobody was told of the first."""
    given_again("h1", second, lost=True, told=told)
    with pytest.raises(Violated) as raised:
        given_again("h1", second, lost=False, told=told)
    assert raised.value.name == "tokens-increase"


def test_a_token_comes_again_for_the_other_lock_of_one_request() -> None:
    """After a rewind only, and in the same hands: what frees one of two locks may be another takeover."""
    given_again("h1", "h1", lost=True, told=True, lock="b")
    for second, lost in (("h1", False), ("h2", True)):
        with pytest.raises(Violated) as raised:
            given_again("h1", second, lost=lost, told=True, lock="b")
        assert raised.value.name == "tokens-increase"


def test_a_token_that_was_told_never_comes_in_other_hands() -> None:
    """After a rewind either: two would hold one token."""
    with pytest.raises(Violated) as raised:
        given_again("h1", "h2", lost=True, told=True)
    assert raised.value.name == "tokens-increase"


class Chain:
    """A checker and a witness over commits without content. Its clock is `now`."""

    def __init__(self) -> None:
        self.under: dict[str, str] = {"first": ""}
        self.scheduler = SimpleNamespace(now=0.0)
        self.world = SimpleNamespace(
            scheduler=self.scheduler,
            server=SimpleNamespace(objects={}, contains=self.contains),
            keeping=SimpleNamespace(landed=lambda *words: None),
            promoting=None,
            nodes=[],
            chatty=False,
        )
        self.witness = self.world.witness = Witness(cast(World, self.world))
        self.checker = self.world.checker = Checker(cast(World, self.world))
        self.checker.links.append(self.link("first"))
        self.checker.where["first"] = 0
        self.checker._stands()
        item = Item(1, "op", {"kind": "lock"}, Evidence(now=NOW, random="0"), {})
        self.asked = self.witness.asked["op"] = Asked(item, "deliver", "n1", "build1", 0.0, "process")

    def link(self, commit: str) -> Link:
        return Link(commit, cast(Any, commit), state())

    def contains(self, tip: str, commit: str) -> bool:
        while tip and tip != commit:
            tip = self.under[tip]
        return tip == commit

    def at(self, now: float) -> Chain:
        self.scheduler.now = now
        return self

    def begins(self, commit: str) -> None:
        """The push of a commit is begun."""
        self.witness._begun[commit] = self.scheduler.now

    def lands(self, commit: str, outcome: dict[str, Any] = OK) -> None:
        """A commit with the operation lands."""
        self.under[commit] = self.checker.links[-1].commit
        link = self.link(commit)
        link.ops = ["op"]
        self.witness.landed("op", {"kind": "lock"}, outcome, commit)
        self.checker.applied["op"] = outcome
        self.checker._append(link)
        self.checker._stands()

    def sees(self, tip: str) -> None:
        """The asker's machine sees a tip."""
        self.witness._sees(cast(Any, SimpleNamespace(name="n1", builder="build1")), tip)

    def told(self, outcome: dict[str, Any]) -> None:
        """The asker is told."""
        self.asked.told, self.asked.told_at = outcome, self.scheduler.now
        self.witness._told(self.asked, outcome)


def test_only_what_was_seen_before_the_push_began_was_told() -> None:
    """untold: lost, and no tip with it seen by the operation's machine when the later push was begun."""
    chain = Chain()
    chain.lands("one")
    assert not chain.checker.untold("op", "one", "two")  # it still stands
    chain.at(1.0).checker.rewound("first")
    chain.at(2.0).begins("two")
    assert chain.checker.untold("op", "one", "two")
    chain.at(3.0).sees("one")
    assert chain.checker.untold("op", "one", "two")  # the push was under way
    chain.at(4.0).begins("three")
    assert not chain.checker.untold("op", "one", "three")
    assert not chain.checker.untold("stranger", "one", "two")


def test_a_tip_that_was_lost_stood_until_then() -> None:
    """views_since: an answer may rest on what stood after the question, also if a rewind took it back."""
    chain = Chain()
    chain.at(1.0).lands("one")
    chain.at(3.0).checker.rewound("first")
    assert list(chain.checker.views_since(2.0)) == ["first", "one"]
    chain.at(5.0).begins("two")
    chain.lands("two")
    assert list(chain.checker.views_since(4.0)) == ["two", "first"]


def test_an_answer_is_what_its_machine_can_know() -> None:
    """Of a lost landing only a machine that saw it may tell; what stands holds for everybody."""
    chain = Chain()
    chain.lands("one")
    chain.at(1.0).checker.rewound("first")
    assert chain.checker.came_to("op", "n1") == ([], False)
    chain.sees("one")
    assert chain.checker.came_to("op", "n1") == ([OK], True)
    chain.checker.seen.pop("n1")  # it goes on from what the remote has
    assert chain.checker.came_to("op", "n1") == ([OK], False)
    chain.checker.applied["op"] = REFUSED
    assert chain.checker.came_to("op", "n1") == ([OK, REFUSED], True)


def test_an_answer_against_the_chain_is_noticed_after_a_rewind() -> None:
    """A machine that has seen the landing, lost or not, tells nobody otherwise."""
    chain = Chain()
    chain.lands("one")
    chain.sees("one")
    chain.at(1.0).checker.rewound("first")
    with pytest.raises(Violated) as raised:
        chain.told(REFUSED)
    assert raised.value.name == "refused-never-applied"


@pytest.mark.parametrize(("begun", "name"), [(1.0, None), (4.0, "refused-never-applied")])
def test_only_a_push_under_way_carries_out_what_was_refused(begun: float, name: str | None) -> None:
    """After a rewind a push that was begun before it may land; one that is begun afterwards may not."""
    chain = Chain()
    chain.at(begun).begins("one")
    chain.asked.told, chain.asked.told_at = REFUSED, 2.0
    chain.at(3.0).checker.rewound("first")
    chain.at(5.0)
    if name is None:
        chain.lands("one")
        assert chain.checker.applied["op"] == OK
        return
    with pytest.raises(Violated) as raised:
        chain.lands("one")
    assert raised.value.name == name


def test_a_refusal_holds_while_nothing_is_rewound() -> None:
    """Without a rewind a push that was under way when its asker was refused never lands."""
    chain = Chain()
    chain.at(1.0).begins("one")
    chain.asked.told, chain.asked.told_at = REFUSED, 2.0
    with pytest.raises(Violated) as raised:
        chain.at(5.0).lands("one")
    assert raised.value.name == "refused-never-applied"
