"""What a leaf that differs depends on, told by building again: twice alike, and with one thing changed. PURE.

    A, B       the builds that were compared; this leaf differs between them
    A1, A2     A's again, in the environment that A's manifest states; B1, B2 in B's
    A with x   A's again, with x alone as B had it; B with x the other way round

    A1 ≠ A2                        random, or time-dependent where a moment of that build is what differs
    A1 = A2 = B1 = B2              transient: what made A and B differ is no longer there
    A1 = A2, B1 = B2, A1 ≠ B1      host-dependent: then changes tell of what

A thing is named where changing it alone gives what the other side has, and nothing that is known speaks
against it; then where several do so together, each of which changes the leaf; then where it changes the leaf
to something else, which repetition does not. What does not fit has no name: `unknown` and `unstable` are
answers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

#: What a leaf is in one build: equal where it is the same there. None: not known.
Form = str | int | None

LEFT, RIGHT = 0, 1
#: So many builds that are alike have to agree before anything is steady.
REPEATS: Final = 2
#: So many builds have to show each side what is named; where the other side cannot be built, one more.
_TAKES: Final = 3


class Thing(NamedTuple):
    """Something that can be changed for one build: in words, and what keeps it out of a build for good."""

    words: str
    remedy: str


#: By the name that an environment has for it, in the order in which they are told.
THINGS: Final[Mapping[str, Thing]] = {
    "clock": Thing("the clock", "SOURCE_DATE_EPOCH=<commit time>, or no date at all"),
    "timezone": Thing("the time zone", "TZ=UTC"),
    "locale": Thing("the locale", "LC_ALL=C.UTF-8; sort with LC_ALL=C"),
    "umask": Thing("the umask", "umask 022; install -m, tar --mode"),
    "user": Thing("the user", "one user name, -Duser.name=…, or none at all"),
    "host": Thing("the host name", "one host name (a UTS namespace), or no host name at all"),
    "folder": Thing(
        "the folder",
        "one build path on both sides (`reproducible`, in a mount namespace); -ffile-prefix-map, -trimpath",
    ),
    "cores": Thing(
        "the number of processors", "a fixed number of threads; sort what threads produce before writing"
    ),
    "order": Thing(
        "the order in which folders list their files", "sort what is listed; tar --sort=name, LC_ALL=C"
    ),
}


#: Where nothing is stated of a thing, builds that are made again may all have it alike, as the first had not.
UNRECORDED: Final = frozenset({"order"})


class Kind(StrEnum):
    """What building again tells of a leaf."""

    RANDOM = "random"
    TIME = "time-dependent"
    HOST = "host-dependent"
    TRANSIENT = "transient"
    UNSTABLE = "unstable"
    UNKNOWN = "unknown"


class How(StrEnum):
    """In which way the things that are named make the difference."""

    ALONE = "alone"
    TOGETHER = "together"
    PART = "part"


_CERTAIN: Final = frozenset({How.ALONE, How.TOGETHER})


class Effect(StrEnum):
    """What a change did to a leaf: nothing, it gave what the other side has, or a third form."""

    NONE = "none"
    OTHER = "other"
    THIRD = "third"


@dataclass(frozen=True)
class Change:
    """One side's build again, with these things as the other has them. Made again it is another `take`."""

    side: int
    things: frozenset[str]
    take: int = 1

    def __post_init__(self) -> None:
        assert self.side in (LEFT, RIGHT)
        assert self.things


@dataclass(frozen=True)
class Forms:
    """What one leaf was in each build. `repeats` are those of each side's builds that were made again alike.

    `dated`: in each build that is known it holds a moment at which that very build ran, and no other does.
    """

    originals: tuple[Form, Form]
    repeats: tuple[tuple[Form, ...], tuple[Form, ...]] = ((), ())
    changed: Mapping[Change, Form] = field(default_factory=dict)
    dated: bool = False

    def steady(self, side: int) -> Form:
        """Returns what a side makes whenever it builds; None where that is not known, or varies."""
        known = [each for each in self.repeats[side] if each is not None]
        return known[0] if len(known) >= REPEATS and not self.shaky(side) else None

    def shaky(self, side: int) -> bool:
        """Says whether two builds of a side that were alike differ from each other."""
        alike: list[list[Form]] = [[each for each in self.repeats[side] if each is not None]]
        alike += [self.takes(change) for change in self.changed if change.side == side]
        return any(len(set(forms)) > 1 for forms in alike)

    def target(self, side: int) -> Form:
        """Returns what a change of a side would have to give: what the other side makes, or has made."""
        steady = self.steady(1 - side)
        return self.originals[1 - side] if steady is None else steady

    def takes(self, change: Change) -> list[Form]:
        """Returns what the builds with a change gave, as far as it is known."""
        every = (
            form
            for other, form in self.changed.items()
            if (other.side, other.things) == (change.side, change.things)
        )
        return [form for form in every if form is not None]

    def effect(self, change: Change) -> Effect | None:
        """Returns what a change did; None where that is not known."""
        steady, target = self.steady(change.side), self.target(change.side)
        forms = self.takes(change)
        if steady is None or not forms:
            return None
        form = forms[0]
        if form == steady:
            return Effect.NONE
        return Effect.OTHER if form == target else Effect.THIRD


@dataclass(frozen=True)
class Ruling:
    """What of one leaf is known: its kind, the things that make the difference, and how they do."""

    kind: Kind
    makes: tuple[str, ...] = ()
    how: How | None = None


def rule(forms: Forms) -> Ruling:
    """Returns what the builds tell of one leaf."""
    kind = _kind(forms)
    if kind in (Kind.RANDOM, Kind.TRANSIENT) and forms.dated:
        return Ruling(Kind.TIME, ("clock",), How.ALONE)
    if kind in (Kind.TRANSIENT, Kind.UNKNOWN) and (parts := _parts(forms)):
        return Ruling(kind, _in_order(parts), How.PART)
    if kind is not Kind.HOST:
        return Ruling(kind)
    for how, found in (
        (How.ALONE, _alone(forms)),
        (How.TOGETHER, _together(forms)),
        (How.PART, _parts(forms)),
    ):
        if found:
            return Ruling(kind, _in_order(found), how)
    return Ruling(kind)


def _in_order(things: Collection[str]) -> tuple[str, ...]:
    return tuple(each for each in THINGS if each in things)


def _kind(forms: Forms) -> Kind:
    shaky = [side for side in (LEFT, RIGHT) if forms.shaky(side)]
    steady = [side for side in (LEFT, RIGHT) if forms.steady(side) is not None]
    if shaky:
        return Kind.UNSTABLE if steady else Kind.RANDOM
    if len(steady) == 2:
        return _both_steady(forms)
    if not steady:
        return Kind.UNKNOWN
    (side,) = steady
    made, (own, other) = forms.steady(side), (forms.originals[side], forms.originals[1 - side])
    if other is None or own is None:
        return Kind.UNKNOWN
    if made == other:
        return Kind.TRANSIENT
    given = any(forms.effect(change) is Effect.OTHER for change in forms.changed if change.side == side)
    return Kind.HOST if made == own and given else Kind.UNKNOWN


def _both_steady(forms: Forms) -> Kind:
    left, right = forms.steady(LEFT), forms.steady(RIGHT)
    if left == right:
        return Kind.TRANSIENT
    crossed = left == forms.originals[RIGHT] or right == forms.originals[LEFT]
    return Kind.UNSTABLE if crossed else Kind.HOST


def _effects(forms: Forms) -> Iterator[tuple[Change, Effect]]:
    for change in forms.changed:
        effect = forms.effect(change)
        if effect is not None:
            yield change, effect


def _disproved(forms: Forms, change: Change) -> bool:
    """Says whether anything known speaks against that these things make the difference.

    The other way round they would have to matter as well, and with more of the other side's they still do:
    what gave the other's gives it again.
    """
    for other, effect in _effects(forms):
        back = (other.side, other.things) == (1 - change.side, change.things)
        more = other.side == change.side and other.things > change.things
        if (back or more) and effect is Effect.NONE:
            return True
        if more and effect is Effect.THIRD and forms.effect(change) is Effect.OTHER:
            return True
    return False


def _alone(forms: Forms) -> set[str]:
    return {
        thing
        for change, effect in _effects(forms)
        for thing in change.things
        if len(change.things) == 1 and effect is Effect.OTHER and not _disproved(forms, change)
    }


def _together(forms: Forms) -> set[str]:
    """Returns the fewest things that give the other side's form together, each of which changes it alone."""
    if any(len(change.things) == 1 and effect is Effect.OTHER for change, effect in _effects(forms)):
        return set()
    found: list[frozenset[str]] = [
        change.things
        for change, effect in _effects(forms)
        if len(change.things) > 1
        and effect is Effect.OTHER
        and not _disproved(forms, change)
        and all(
            forms.effect(Change(change.side, frozenset({thing}))) is Effect.THIRD for thing in change.things
        )
    ]
    return set(sorted(found, key=len)[0]) if found else set()


def _parts(forms: Forms) -> set[str]:
    """Returns the things that change it to what neither side has, where none is known to do more."""
    if any(effect is Effect.OTHER and len(change.things) == 1 for change, effect in _effects(forms)):
        return set()
    return {
        thing
        for change, effect in _effects(forms)
        for thing in change.things
        if len(change.things) == 1 and effect is Effect.THIRD and not _disproved(forms, change)
    }


# ---------------------------------------------------------------- which build to make next


def next_change(
    every: Collection[Forms],
    suspects: Sequence[str],
    here: tuple[bool, bool],
    made: Collection[Change],
) -> Change | None:
    """Returns the build that tells most of what is not told yet, or None where no other would tell more.

    `suspects` are in the order in which they are tried, `here` says which sides can be built again, `made`
    are the changes that were tried, also without success. Of a side that can, first everything at once where
    the other cannot: what then stays as it is depends on nothing that can be changed. Then one at a time,
    until each leaf has its thing; then together what changed a leaf without giving the other's; and what is
    named the other way round, and once more. What is transient may still depend on what is not recorded.
    """
    side = LEFT if here[LEFT] else RIGHT
    if not here[side]:
        return None
    left = [each for each in every if _is_open(each, side)]
    recorded = [thing for thing in suspects if thing not in UNRECORDED]
    rest = left
    if left and not here[1 - side] and len(recorded) > 2:
        everything = Change(side, frozenset(recorded))
        if everything not in made:
            return everything
        left = [each for each in left if each.effect(everything) is not Effect.NONE]
    for thing in suspects:
        change = Change(side, frozenset({thing}))
        if (rest if thing in UNRECORDED else left) and change not in made:
            return change
    for each in left:
        parts = frozenset(
            thing for thing in suspects if each.effect(Change(side, frozenset({thing}))) is Effect.THIRD
        )
        if len(parts) > 1 and Change(side, parts) not in made:
            return Change(side, parts)
    for thing in suspects:
        change = Change(side, frozenset({thing}))
        transient = (_kind(each) is Kind.TRANSIENT and each.steady(side) is not None for each in every)
        if thing in UNRECORDED and change not in made and any(transient):
            return change
    return _confirming(every, here, made) or _repeating(every, here, made)


def _is_open(forms: Forms, side: int) -> bool:
    """Says whether a leaf that may depend on the host has no thing yet."""
    if forms.steady(side) is None or forms.shaky(1 - side):
        return False
    return forms.steady(side) != forms.target(side) and not _alone(forms)


def _confirming(every: Collection[Forms], here: tuple[bool, bool], made: Collection[Change]) -> Change | None:
    """Returns the change of the other side that would speak against what is named, if it can be made."""
    if not all(here):
        return None
    for forms in every:
        for change, effect in _effects(forms):
            back = Change(1 - change.side, change.things)
            if effect is Effect.OTHER and back not in made:
                return back
    return None


def _repeating(every: Collection[Forms], here: tuple[bool, bool], made: Collection[Change]) -> Change | None:
    """Returns a build with all that is named, or None where enough of them were made.

    Whatever else is changed, what is named has to give the other's again: what has but two forms gives
    either by chance.
    """
    found = [rule(forms) for forms in every]
    named = frozenset(thing for each in found if each.how in _CERTAIN for thing in each.makes)
    wanted = (_TAKES if all(here) else _TAKES + 1) - (len(named) > 1)
    for side in (LEFT, RIGHT):
        have = sum(change.side == side and change.things >= named for change in made)
        if named and here[side] and have < wanted:
            number = 1 + sum((change.side, change.things) == (side, named) for change in made)
            return Change(side, named, number)
    return None
