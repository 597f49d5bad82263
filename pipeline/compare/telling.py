"""What builds made again tell of a leaf, in words: what was seen, what makes it, what removes it. PURE."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from pipeline.compare.counterfactuals import (
    LEFT,
    RIGHT,
    THINGS,
    Change,
    Effect,
    Form,
    Forms,
    How,
    Kind,
    Ruling,
    rule,
)
from pipeline.compare.remedies import CAUSES
from pipeline.records.comparison import ComparedLeaf, RebuiltLeaf

#: What of a build's own file names tells the module: `cloud-api-4.21.0.0.jar`.
_ARCHIVE: Final = re.compile(r"\.(?:jar|war|zip|tar|tgz|gz|whl)$")
_NAMES: Final = {Kind.UNKNOWN: "not known"}


def rebuilt(leaf: ComparedLeaf, forms: Forms, names: tuple[str, str]) -> RebuiltLeaf:
    """Returns what is told of a leaf; `names` are the sides'."""
    found = rule(forms)
    told = list(_seen(found, forms, names))
    remedy = "; ".join(dict.fromkeys(THINGS[each].remedy for each in found.makes)) or None
    if remedy is None and found.kind is Kind.RANDOM:
        remedy = CAUSES["random"].remedy
    if found.makes == ("clock",) and leaf.cause is not None and leaf.cause in CAUSES:
        remedy = CAUSES[leaf.cause].remedy
    return RebuiltLeaf(
        kind=found.kind.value,
        makes=list(found.makes),
        how=None if found.how is None else found.how.value,
        text=_headline(found),
        evidence="; ".join(told),
        remedy=remedy,
    )


def _headline(found: Ruling) -> str:
    """Returns a ruling in a few words: `host-dependent: the umask makes it`."""
    things = " and ".join(THINGS[each].words for each in found.makes)
    if found.how is How.PART:
        kind = _NAMES.get(found.kind, found.kind)
        return f"{kind}: {things} {'change' if len(found.makes) > 1 else 'changes'} it"
    if found.how is How.TOGETHER:
        return f"{found.kind}: {things} make it together"
    if found.how is How.ALONE:
        return f"{found.kind}: {things.replace(' and ', ' or ')} makes it"
    if found.kind is Kind.HOST:
        return f"{found.kind}: not known what makes it"
    return str(_NAMES.get(found.kind, found.kind))


def _seen(found: Ruling, forms: Forms, names: tuple[str, str]) -> Iterable[str]:
    shaky = [names[side] for side in (LEFT, RIGHT) if forms.shaky(side)]
    steady = [side for side in (LEFT, RIGHT) if forms.steady(side) is not None]
    if found.kind is Kind.TIME:
        yield "each build tells the moment at which it ran"
    elif shaky:
        yield f"two builds on {' and two on '.join(shaky)} differ from each other"
    if found.kind is Kind.TRANSIENT:
        yield _transient(forms, names, steady)
        yield from _changes(found, forms, names) if found.makes else ()
        return
    for side in steady if found.kind is not Kind.TIME else ():
        known = [each for each in forms.repeats[side] if each is not None]
        again = _again(forms.steady(side), forms.originals, side, names)
        yield f"{names[side]} {again} ({len(known)} builds)"
    if found.kind is Kind.HOST:
        yield from _changes(found, forms, names)
    if found.kind is Kind.UNKNOWN:
        missing = [names[side] for side in (LEFT, RIGHT) if side not in steady]
        yield f"not known of {' and '.join(missing)}, not built again twice"
        yield from _changes(found, forms, names)


def _again(form: Form, originals: tuple[Form, Form], side: int, names: tuple[str, str]) -> str:
    if form == originals[side]:
        return "makes the same again"
    if form == originals[1 - side]:
        return f"makes now what {names[1 - side]} made"
    return "always makes the same, but not what it made first"


def _transient(forms: Forms, names: tuple[str, str], steady: Sequence[int]) -> str:
    form = forms.steady(steady[0])
    count = sum(len([each for each in forms.repeats[side] if each is not None]) for side in steady)
    whose = next((names[side] for side in (LEFT, RIGHT) if form == forms.originals[side]), None)
    what = (
        "the same, which neither made first"
        if whose is None
        else f"the same, which is what {whose} made first"
    )
    return f"all {count} builds made again make {what}"


def _changes(found: Ruling, forms: Forms, names: tuple[str, str]) -> Iterable[str]:
    """Says what each change did that speaks for a name; without one, that nothing that was tried did more."""
    first = [change for change in forms.changed if change.take == 1]
    effects = {change: effect for change in first if (effect := forms.effect(change)) is not None}
    named = set(found.makes)
    telling = {
        change: effect
        for change, effect in effects.items()
        if (
            change.things == named
            if found.how is How.TOGETHER
            else len(change.things) == 1 and change.things <= named
        )
    }
    for change, effect in (telling or effects).items():
        if effect is not Effect.NONE:
            count = len(forms.takes(change))
            often = f" ({count} builds)" if count > 1 else ""
            yield f"{told(change, names)} makes {_result(change, effect, names)}{often}"
    without = sorted(
        THINGS[thing].words
        for change, effect in effects.items()
        if effect is Effect.NONE and len(change.things) == 1
        for thing in change.things
    )
    if without and found.how is not How.ALONE:
        yield f"no effect: {', '.join(dict.fromkeys(without))}"


def _result(change: Change, effect: Effect, names: tuple[str, str]) -> str:
    if effect is Effect.OTHER:
        return f"what {names[1 - change.side]} makes"
    return "something else, which neither makes"


def told(change: Change, names: tuple[str, str]) -> str:
    """Returns a change in words: `build1 with the time zone of build2`."""
    things = [THINGS[each].words for each in THINGS if each in change.things]
    again = "" if change.take == 1 else f", again ({change.take})"
    if change.things == {"order"}:
        return f"{names[change.side]} with {things[0]} reversed{again}"
    return f"{names[change.side]} with {' and '.join(things)} of {names[1 - change.side]}{again}"


def owners(leaves: Iterable[ComparedLeaf], modules: Collection[str]) -> list[str]:
    """Returns the modules, by artifact id, whose archives differ, as far as the archives' names tell."""
    found = set()
    for leaf in leaves:
        for name in reversed(leaf.path):
            if not _ARCHIVE.search(name):
                continue
            base = name.rsplit("/", 1)[-1]
            fitting = [each for each in modules if base.startswith((f"{each}-", f"{each}."))]
            if fitting:
                found.add(max(fitting, key=len))
                break
    return sorted(found)
