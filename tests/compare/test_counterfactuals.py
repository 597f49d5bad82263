"""What builds made again tell of a leaf: every case of the decision, and that no name is a guess."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.compare.counterfactuals import (
    LEFT,
    RIGHT,
    THINGS,
    Change,
    Form,
    Forms,
    How,
    Kind,
    Ruling,
    next_change,
    rule,
)

X, Y = "timezone", "host"
HERE = (True, True)


def change(side: int, *things: str) -> Change:
    return Change(side, frozenset(things))


def forms(a: Form, b: Form, a12: str = "", b12: str = "", **more: object) -> Forms:
    """Makes the forms of a leaf: one letter a build, `-` where it is not known."""
    repeats = tuple(tuple(None if each == "-" else each for each in told) for told in (a12, b12))
    return Forms((a, b), repeats, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("a12", "b12", "kind"),
    [
        # Both sides are steady.
        ("aa", "bb", Kind.HOST),
        ("aa", "cc", Kind.HOST),
        ("cc", "bb", Kind.HOST),
        ("cc", "dd", Kind.HOST),
        ("aa", "aa", Kind.TRANSIENT),
        ("bb", "bb", Kind.TRANSIENT),
        ("cc", "cc", Kind.TRANSIENT),
        ("bb", "aa", Kind.UNSTABLE),
        ("bb", "cc", Kind.UNSTABLE),
        ("cc", "aa", Kind.UNSTABLE),
        # One is not.
        ("ac", "bd", Kind.RANDOM),
        ("ab", "ab", Kind.RANDOM),
        ("ac", "bb", Kind.UNSTABLE),
        ("aa", "bd", Kind.UNSTABLE),
        ("ac", "", Kind.RANDOM),
        ("", "bd", Kind.RANDOM),
        ("ac", "b-", Kind.RANDOM),
        # One was not built again, or not twice.
        ("aa", "", Kind.UNKNOWN),
        ("aa", "b", Kind.UNKNOWN),
        ("aa", "b-", Kind.UNKNOWN),
        ("cc", "", Kind.UNKNOWN),
        ("bb", "", Kind.TRANSIENT),
        ("", "aa", Kind.TRANSIENT),
        ("", "bb", Kind.UNKNOWN),
        ("", "", Kind.UNKNOWN),
        ("a", "b", Kind.UNKNOWN),
        ("a-", "b-", Kind.UNKNOWN),
        ("--", "--", Kind.UNKNOWN),
    ],
)
def test_the_kind_follows_from_the_repetitions(a12: str, b12: str, kind: Kind) -> None:
    """Each pattern of A1, A2, B1, B2 beside A and B has its kind, and without a change nothing has a name."""
    assert rule(forms("a", "b", a12, b12)) == Ruling(kind)


def test_each_kind_holds_only_where_its_definition_does() -> None:
    """Over all forms that four builds made again can have, each known or not, beside A ≠ B."""
    kinds = set()
    for told in product(("a", "b", "c", "d", None), repeat=4):
        a1, a2, b1, b2 = told
        kind = rule(Forms(("a", "b"), ((a1, a2), (b1, b2)))).kind
        kinds.add(kind)
        known = [None not in pair for pair in ((a1, a2), (b1, b2))]
        alike = [known[0] and a1 == a2, known[1] and b1 == b2]
        apart = [known[0] and a1 != a2, known[1] and b1 != b2]
        crossed = (alike[0] and a1 == "b") or (alike[1] and b1 == "a")
        definitions = {
            Kind.RANDOM: any(apart) and not any(alike),
            Kind.HOST: all(alike) and a1 != b1 and not crossed,
            Kind.TRANSIENT: (all(alike) and a1 == b1) or (any(alike) and not all(known) and crossed),
            Kind.UNSTABLE: (any(apart) and any(alike)) or (all(alike) and a1 != b1 and crossed),
            Kind.UNKNOWN: not any(apart) and not all(alike) and not crossed,
        }
        assert [each for each, holds in definitions.items() if holds] == [kind], told
    assert kinds == set(Kind) - {Kind.TIME}


@pytest.mark.parametrize("a12", ["", "a", "aa", "ac", "a-", "bb", "cc"])
@pytest.mark.parametrize("b12", ["", "b", "bb", "bd", "b-", "aa", "cc"])
def test_sides_are_alike(a12: str, b12: str) -> None:
    """Which of the two is called left makes no difference."""
    assert rule(forms("a", "b", a12, b12)) == rule(forms("b", "a", b12, a12))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (forms("a", "b", "ac", "bd"), Kind.TIME),
        (forms("a", "b", "cc", "cc"), Kind.TIME),
        (forms("a", "b", "aa", "bb"), Kind.HOST),
        (forms("a", "b", "ac", "bb"), Kind.UNSTABLE),
    ],
)
def test_what_holds_its_own_moment_is_time_dependent(kind: Forms, expected: Kind) -> None:
    """The clock is named of what changes by itself, and never of what stays the same on a host."""
    found = rule(replace(kind, dated=True))
    assert found.kind is expected
    assert found.makes == (("clock",) if expected is Kind.TIME else ())


STEADY = forms("a", "b", "aa", "bb")


@pytest.mark.parametrize(
    ("changed", "makes", "how"),
    [
        # One gives what the other side has.
        ({change(0, X): "b"}, (X,), How.ALONE),
        ({change(1, X): "a"}, (X,), How.ALONE),
        ({change(0, X): "b", change(1, X): "a"}, (X,), How.ALONE),
        ({change(0, X): "b", change(0, Y): "a"}, (X,), How.ALONE),
        ({change(0, X): "b", change(0, Y): "c"}, (X,), How.ALONE),
        ({change(0, X): "b", change(0, Y): None}, (X,), How.ALONE),
        ({change(0, X): "b", change(1, X): "c"}, (X,), How.ALONE),
        # Either of two does, and nothing speaks against it.
        ({change(0, X): "b", change(0, Y): "b"}, (X, Y), How.ALONE),
        # The other way round it does nothing; or with more of the other side's it does not any more.
        ({change(0, X): "b", change(1, X): "b"}, (), None),
        ({change(0, X): "b", change(0, X, Y): "a"}, (), None),
        ({change(0, X): "c", change(1, X): "b"}, (), None),
        ({change(0, X): "b", change(0, Y): "b", change(1, X): "b", change(1, Y): "b"}, (), None),
        # Two do it together.
        ({change(0, X): "c", change(0, Y): "d", change(0, X, Y): "b"}, (X, Y), How.TOGETHER),
        ({change(0, X): "c", change(0, Y): "a", change(0, X, Y): "b"}, (X,), How.PART),
        ({change(0, X): "c", change(0, X, Y): "b"}, (X,), How.PART),
        ({change(0, X): "a", change(0, Y): "a", change(0, X, Y): "b"}, (), None),
        # It matters, and something else does as well.
        ({change(0, X): "c"}, (X,), How.PART),
        ({change(0, X): "c", change(0, Y): "d"}, (X, Y), How.PART),
        ({change(0, X): "c", change(0, Y): "a"}, (X,), How.PART),
        # Nothing does anything, or nothing is known.
        ({change(0, X): "a"}, (), None),
        ({change(0, X): "a", change(0, Y): "a", change(1, X): "b"}, (), None),
        ({change(0, X): None}, (), None),
        ({}, (), None),
    ],
)
def test_what_makes_it_follows_from_the_changes(
    changed: Mapping[Change, Form], makes: tuple[str, ...], how: How | None
) -> None:
    """Of what depends on the host, each pattern of changes names what it shows, and no more."""
    assert rule(replace(STEADY, changed=changed)) == Ruling(Kind.HOST, makes, how)


@pytest.mark.parametrize(
    ("told", "changed", "expected"),
    [
        (("a", "b", "aa", ""), {change(0, X): "b"}, Ruling(Kind.HOST, (X,), How.ALONE)),
        (("a", "b", "aa", ""), {change(0, X): "c"}, Ruling(Kind.UNKNOWN, (X,), How.PART)),
        (("a", "b", "aa", "aa"), {change(0, X): "a"}, Ruling(Kind.TRANSIENT)),
        (("a", "b", "aa", "aa"), {change(0, "order"): "c"}, Ruling(Kind.TRANSIENT, ("order",), How.PART)),
        (("a", "b", "aa", "aa"), {change(0, "order"): "b"}, Ruling(Kind.TRANSIENT, ("order",), How.PART)),
        (("a", "b", "bb", ""), {change(0, "order"): "c"}, Ruling(Kind.TRANSIENT, ("order",), How.PART)),
        (("a", "b", "aa", ""), {change(0, X, Y): "b"}, Ruling(Kind.HOST)),
        (("a", "b", "", "bb"), {change(1, X): "a"}, Ruling(Kind.HOST, (X,), How.ALONE)),
        (("a", "b", "cc", ""), {change(0, X): "b"}, Ruling(Kind.UNKNOWN)),
        (("a", None, "aa", ""), {change(0, X): "b"}, Ruling(Kind.UNKNOWN, (X,), How.PART)),
        (("a", "b", "ac", "bd"), {change(0, X): "b"}, Ruling(Kind.RANDOM)),
        (("a", "b", "aa", "bd"), {change(0, X): "b"}, Ruling(Kind.UNSTABLE)),
        (("a", "b", "cc", "cc"), {change(0, X): "b"}, Ruling(Kind.TRANSIENT, (X,), How.PART)),
        (("a", "b", "a", "b"), {change(0, X): "b"}, Ruling(Kind.UNKNOWN)),
    ],
)
def test_a_change_tells_nothing_of_what_is_not_steady(
    told: tuple[Form, Form, str, str], changed: Mapping[Change, Form], expected: Ruling
) -> None:
    """A change counts against two builds that are the same; a side that was not built again stands."""
    assert rule(forms(*told, changed=changed)) == expected


# ---------------------------------------------------------------- whole investigations

SUSPECTS = ("timezone", "host", "user")
Model = Callable[[tuple[bool, ...]], Form]


def investigate(
    model: Model,
    here: tuple[bool, bool] = HERE,
    broken: frozenset[Change] = frozenset(),
    *,
    toss: bool = False,
) -> Forms:
    """Builds by a model, from what each thing is to what a leaf becomes, until there is no more to try."""

    def build(each: Change | None, side: int) -> Form:
        things = each.things if each else frozenset()
        return model(tuple((side == RIGHT) != (thing in things) for thing in SUSPECTS))

    repeats = tuple((build(None, side), build(None, side)) if here[side] else () for side in (LEFT, RIGHT))
    originals = ("a", "b") if toss else (build(None, LEFT), build(None, RIGHT))
    found = Forms(originals, repeats)  # type: ignore[arg-type]
    made: dict[Change, Form] = {}
    while (todo := next_change([found], SUSPECTS, here, made.keys())) is not None:
        assert todo not in made
        assert here[todo.side]
        made[todo] = None if todo in broken else build(todo, todo.side)
        found = replace(found, changed=dict(made))
    return found


def depends_on(model: Model, things: tuple[str, ...]) -> bool:
    """Says whether any state of the others lets each of these things change what comes out."""
    for thing in things:
        at = SUSPECTS.index(thing)
        states = product((False, True), repeat=len(SUSPECTS))
        if not any(model(each) != model((*each[:at], not each[at], *each[at + 1 :])) for each in states):
            return False
    return True


def of_two() -> list[tuple[Form, ...]]:
    """Returns every way in which a leaf that differs may depend on two things, of up to four forms."""
    return [table for table in product(range(4), repeat=4) if table[0] != table[3]]


def form_in(table: tuple[Form, ...], state: tuple[bool, ...]) -> Form:
    return table[state[0] + 2 * state[1]]


@pytest.mark.parametrize("here", [HERE, (True, False), (False, True)])
def test_nothing_is_named_that_does_not_matter(here: tuple[bool, bool]) -> None:
    """However a leaf depends on two things, a third is never named, nor one without effect."""
    for table in of_two():
        model = partial(form_in, table)
        found = rule(investigate(model, here))
        assert found.kind in (Kind.HOST, Kind.UNKNOWN)
        assert "user" not in found.makes
        assert depends_on(model, found.makes), (table, found)
        if found.how is How.ALONE:
            # From one side at least, this thing alone leads all the way to the other.
            at = [SUSPECTS.index(thing) for thing in found.makes]
            ways = [(table[1 << place], table[3 & ~(1 << place)]) for place in at]
            assert all(one == table[3] or two == table[0] for one, two in ways)


@pytest.mark.parametrize("thing", SUSPECTS)
@pytest.mark.parametrize("here", [HERE, (True, False), (False, True)])
def test_the_one_thing_that_matters_is_named(thing: str, here: tuple[bool, bool]) -> None:
    """A leaf that depends on one thing alone has its name, also from one side, in few builds."""
    at = SUSPECTS.index(thing)
    found = investigate(lambda state: "b" if state[at] else "a", here)
    assert rule(found) == Ruling(Kind.HOST, (thing,), How.ALONE)
    assert len(found.changed) <= len(SUSPECTS) + 5


@pytest.mark.parametrize("things", list(combinations(SUSPECTS, 2)))
def test_two_things_that_are_both_told_are_named_together(things: tuple[str, str]) -> None:
    """A line that holds user and host depends on both; one build with both shows that nothing else does."""
    at = [SUSPECTS.index(thing) for thing in things]
    found = rule(investigate(lambda state: "".join(str(state[each]) for each in at)))
    assert (found.kind, set(found.makes), found.how) == (Kind.HOST, set(things), How.TOGETHER)


def test_a_coin_is_seldom_taken_for_a_thing() -> None:
    """What has two forms by chance seems steady now and then; then it has hardly ever a name as well."""
    draw = random.Random(20261125)
    for here, most in ((HERE, 0.01), ((True, False), 0.04)):
        found = [rule(investigate(lambda state: draw.choice("ab"), here, toss=True)) for _ in range(2000)]
        named = sum(bool(each.makes) for each in found)
        assert sum(each.kind is not Kind.HOST for each in found) > 0.8 * len(found)
        assert 0 < named / len(found) < most


def test_what_depends_on_nothing_that_can_be_changed_costs_one_build() -> None:
    """Where the other side cannot be built, everything at once shows that no single thing has to be tried."""
    found = Forms(("a", "b"), (("a", "a"), ()))
    whole = Change(LEFT, frozenset(SUSPECTS))
    assert next_change([found], SUSPECTS, (True, False), []) == whole
    after = replace(found, changed={whole: "a"})
    assert next_change([after], SUSPECTS, (True, False), [whole]) is None
    assert rule(after).kind is Kind.UNKNOWN


def test_what_is_transient_may_depend_on_what_nobody_recorded() -> None:
    """The order of files is in no manifest: what is built again has it alike, so it is tried alone."""
    found = forms("a", "b", "aa", "aa")
    order = change(LEFT, "order")
    assert next_change([found], (*SUSPECTS, "order"), HERE, []) == order
    assert next_change([replace(found, changed={order: "c"})], (*SUSPECTS, "order"), HERE, [order]) is None


@pytest.mark.parametrize(
    ("told", "here"),
    [
        (forms("a", "b", "ac", "bd"), HERE),
        (forms("a", "b", "cc", "cc"), HERE),
        (forms("a", "b", "aa", "bd"), HERE),
        (forms("a", "b", "--", "--"), HERE),
        (forms("a", "b", "bb", ""), (True, False)),
        (STEADY, (False, False)),
    ],
)
def test_nothing_is_built_that_would_tell_nothing(told: Forms, here: tuple[bool, bool]) -> None:
    """What is random, transient or unknown is not looked into by changing things."""
    assert next_change([told], SUSPECTS, here, []) is None


@given(st.data())
def test_chance_and_failures_never_make_a_name(data: st.DataObject) -> None:
    """Whatever builds give and whichever fail: a name has a build behind it that gave another form than the
    repetitions, and none that speaks against it.
    """
    letter = st.one_of(st.none(), st.sampled_from("abcd"))
    repeats = st.lists(letter, max_size=3).map(tuple)
    all_changes = [
        Change(side, frozenset(things))
        for side in (LEFT, RIGHT)
        for size in (1, 2, 3)
        for things in combinations(SUSPECTS, size)
    ]
    changed = data.draw(st.dictionaries(st.sampled_from(all_changes), letter))
    told = Forms(("a", "b"), (data.draw(repeats), data.draw(repeats)), changed)
    found = rule(told)
    assert tuple(each for each in THINGS if each in found.makes) == found.makes
    if not found.makes:
        assert found.how is None
        return
    assert found.kind is Kind.HOST or found.how is How.PART
    assert found.kind in (Kind.HOST, Kind.TRANSIENT, Kind.UNKNOWN)
    behind = [
        each
        for each, form in changed.items()
        if set(found.makes) & each.things and form is not None and form != told.steady(each.side) is not None
    ]
    assert behind
    for thing in found.makes if found.how is not How.TOGETHER else ():
        one, two = (changed.get(change(side, thing)) for side in (LEFT, RIGHT))
        unmoved = [
            form is not None and form == told.steady(side) for side, form in ((LEFT, one), (RIGHT, two))
        ]
        assert not any(unmoved)


@given(st.sets(st.sampled_from([change(side, thing) for side in (LEFT, RIGHT) for thing in SUSPECTS])))
def test_an_investigation_ends_whatever_fails(broken: set[Change]) -> None:
    """Builds that fail are not made again, and what could not be tried is not named."""
    found = rule(investigate(lambda state: "b" if state[1] else "a", broken=frozenset(broken)))
    assert set(found.makes) <= {"host"}
    if {change(LEFT, "host"), change(RIGHT, "host")} <= broken:
        assert found.makes == ()
