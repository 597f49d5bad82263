"""Which known cause explains a differing leaf, by evidence. PURE.

A cause is named only where leaving it out of the two values leaves the same: a date is a cause where both
lines are equal without their dates. What fits none has no cause, and that is said. Normalisers prove; what is
named here is likely, and a leaf of which only a part was seen says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

#: The cause's name, and what shows it.
Named = tuple[str, str]


@dataclass(frozen=True)
class Shown:
    """Where two leaves part. `pairs` are lines (of what is no text, strings) that differ; None: not there.

    `every`: these are all that do. `alike` names the properties without which the two are equal. `at` is the
    first byte that differs and `line` its line; `bytes` are some from there on, hexadecimal.
    """

    at: int
    line: int | None
    text: bool
    every: bool
    pairs: tuple[tuple[str | None, str | None], ...]
    alike: frozenset[str]
    bytes: tuple[str, str]


@dataclass(frozen=True)
class Seen:
    """What is known of one leaf: its path, the kind of container that it is of, what differs, both values.

    `shown` is where its content parts; `ours` and `theirs` what was recorded of where each was built.
    """

    path: Sequence[str]
    kind: str
    what: str
    left: str | None = None
    right: str | None = None
    shown: Shown | None = None
    ours: Mapping[str, str] = field(default_factory=dict)
    theirs: Mapping[str, str] = field(default_factory=dict)


_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6}"
_CLOCK = r"[0-2]?\d:[0-5]\d(?::[0-6]\d(?:[.,]\d{1,9})?)?(?: ?[AaPp][Mm])?"
_ZONE = r"(?: ?(?:Z|[+-]\d{2}:?\d{2}|\(?[A-Z]{3,5}\)?))"
_ISO = r"\d{4}[-./]\d{1,2}[-./]\d{1,2}"
_DATES: Final = re.compile(
    rf"(?:{_DAY},? )?(?:{_ISO}|\d{{1,2}}[ -]{_MONTH}[ -]\d{{4}}|{_MONTH} +\d{{1,2}},? \d{{4}})"
    rf"(?:(?:T| at |,? +){_CLOCK}{_ZONE}?)?"
    rf"|{_DAY} {_MONTH} [ \d]\d {_CLOCK}{_ZONE}? \d{{4}}"
    rf"|(?<![\d:.]){_CLOCK}{_ZONE}?(?![\d:])"
    r"|(?<!\d)20\d{6}(?:[T.-]?\d{4,6}Z?)?(?!\d)"
    r"|(?<![\d.])1[0-9]\d{8}(?:\d{3}|\.\d{1,9})?(?!\d)"
)
_WITH_ZONE: Final = re.compile(rf"({_CLOCK}){_ZONE}")
_PATHS: Final = re.compile(r"(?<![\w.])(?:file:)?/(?:[\w.+@-]+/)*[\w.+@-]+")
_UUIDS: Final = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
_TEMPORARY: Final = re.compile(r"\b(?:tmp|temp|pid)[._=-]?[\w.]{4,16}", re.IGNORECASE)
_IDENTITY: Final = re.compile(r"@[0-9a-f]{5,8}\b")
_COLOURS: Final = re.compile(r"#[0-9a-fA-F]{3,8}\b|\bcolorPalette\([^()]*\)|\brgba?\([^()]*\)")
_HASHED: Final = re.compile(r"(?<=[._-])(?=[a-z]*\d)[0-9a-f]{8,64}(?=[._-])")
_VERSIONS: Final = re.compile(r"\bv?\d+(?:\.\d+)+[\w.-]*")
_NOT_ASCII: Final = re.compile("(?:[^\x00-\x7f]|\\?)+")
_SIGNS: Final = re.compile(r"(?<=\d)[.,\u202f\u00a0'](?=\d)")
_HOST_KEY: Final = re.compile(r"(?i)host")
_USER_KEY: Final = re.compile(r"(?i)\b(built-by|user|author|email|login)\b|user\.name|build\.user")
_TOOL_KEY: Final = re.compile(r"(?i)created-by|build-jdk|tool|compiler|generator")
_MODE: Final = re.compile(r"\b(?:external (?P<zip>[0-9a-f]{8})|(?P<octal>[0-7]{3,7}))$")
_DOS_TIME: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)$")
_UNSET: Final = 0o7777
_SHOWN_BY: Final = "as the two values show"
_VALUES: Final = ("host", "user", "path", "time")

#: Kind -> property -> cause, of what the two values themselves need not be looked at for.
_PLAIN: Final[Mapping[str, Mapping[str, str]]] = {
    "zip": {"coding": "compression", "layout": "compression", "extra": "zip-times"},
    "gzip": {
        **dict.fromkeys(("mtime", "name", "os", "flags", "header crc"), "gzip-header"),
        **dict.fromkeys(("xfl", "deflate"), "compression"),
    },
    "xz": dict.fromkeys(("stream", "first block's header", "index", "check"), "compression"),
    "zstd": dict.fromkeys(("frame", "descriptor"), "compression"),
    "tar": {"time": "tar-times", "owner": "owner"},
    "control tar": {"time": "deb-times", "owner": "owner"},
    "data tar": {"time": "deb-times", "owner": "owner"},
    "deb": {"time": "ar-times"},
    "ar": {"time": "ar-times"},
}


def cause_of(seen: Seen) -> Named | None:
    """Returns the cause of a leaf with what shows it, or None where nothing that is known does."""
    if seen.what == "order of entries":
        lines = seen.kind in ("properties", "manifest")
        return ("set-order" if lines else "entry-order"), "the same entries stand in another order"
    if seen.kind == "zip" and seen.what == "time":
        return _zip_time(seen)
    if seen.what in ("mode", "attributes"):
        return _permissions(seen)
    plain = _PLAIN.get(seen.kind, {}).get(seen.what)
    if plain is not None:
        return plain, _SHOWN_BY
    if seen.what == "value" and seen.left is not None and seen.right is not None:
        key = seen.path[-1] + "="
        return _lines(seen, [(key + seen.left, key + seen.right)], "")
    if seen.what == "content" and seen.shown is not None:
        return _content(seen, seen.shown)
    return None


def renamed(left: Sequence[str], right: Sequence[str]) -> dict[str, str]:
    """Returns which names of one side are another's on the other side, but for a hash that is a part of both.

    A name whose hashless form comes twice on a side is not told: nobody knows which is which.
    """
    sides: list[dict[str, list[str]]] = []
    for names in (left, right):
        forms: dict[str, list[str]] = {}
        for name in names:
            if (form := _HASHED.sub("*", name)) != name:
                forms.setdefault(form, []).append(name)
        sides.append(forms)
    return {
        ours[0]: sides[1][form][0]
        for form, ours in sides[0].items()
        if len(ours) == 1 and len(sides[1].get(form, ())) == 1
    }


def _zip_time(seen: Seen) -> Named:
    moments = [_DOS_TIME.search(each or "") for each in (seen.left, seen.right)]
    if moments[0] and moments[1]:
        one, two = (_seconds([int(part) for part in each.groups()]) for each in moments if each)
        if one != two and abs(one - two) % 900 == 0 and abs(one - two) <= 14 * 3600:
            return "time-zone", f"{abs(one - two) / 3600:g} h apart to the second; suspected"
    return "zip-times", _SHOWN_BY


def _seconds(parts: Sequence[int]) -> int:
    """Returns a moment as seconds, months and years as long as can be: only near ones are compared."""
    year, month, day, hour, minute, second = parts
    return ((((year * 12 + month) * 31 + day) * 24 + hour) * 60 + minute) * 60 + second


def _permissions(seen: Seen) -> Named | None:
    """Names the umask where nothing but bits that it takes away differs, all on one side."""
    found = [_MODE.search(each or "") for each in (seen.left, seen.right)]
    if not found[0] or not found[1]:
        return None
    if seen.what == "attributes":
        rest = [(seen.left or "")[: found[0].start()], (seen.right or "")[: found[1].start()]]
        if rest[0] != rest[1]:
            if found[0].group() != found[1].group():
                return None
            makers = [each.split(",")[0].rsplit(" ", 1)[-1] for each in rest]
            return ("compression" if makers[0] == makers[1] else "zip-tool"), _SHOWN_BY
    one, two = (
        int(each["zip"], 16) >> 16 if each["zip"] else int(each["octal"], 8) for each in found if each
    )
    if one != two and (one ^ two) & ~0o077 == 0 and one & two in (one, two):
        return "umask", "one side's umask takes away bits for group and others"
    if _UNSET in (one & _UNSET, two & _UNSET) and one != two:
        return "mode-unknown", f"mode {_UNSET:o} is what is written for -1"
    return None


def _content(seen: Seen, shown: Shown) -> Named | None:
    for property_of, cause in (
        ("line endings", "line-endings"),
        ("encoding", "encoding"),
        ("order of lines", "set-order"),
        ("order of words", "set-order"),
    ):
        if property_of in shown.alike and shown.text:
            return cause, f"both texts are equal without their {property_of}"
    if not shown.pairs or any(one is None or two is None for one, two in shown.pairs):
        return None
    pairs = [(one or "", two or "") for one, two in shown.pairs]
    where = "" if shown.every else f"; seen at byte {shown.at} only, where they part first"
    return _lines(seen, pairs, where, binary=not shown.text)


def _lines(seen: Seen, pairs: list[tuple[str, str]], where: str, binary: bool = False) -> Named | None:
    """Returns the cause that explains each of these pairs; of more than one, that of the first pair."""
    causes = []
    for one, two in pairs:
        cause = _line(seen, one, two)
        if cause is None:
            return None
        causes.append(cause)
    name, told = causes[0]
    others = sorted({other for other, _ in causes} - {name})
    if others:
        told += f"; elsewhere in it: {', '.join(others)}"
    if name == "text-date":
        name = "binary-date" if binary else _dated(seen, pairs[0][0])
    if seen.path[-1].endswith("git.properties") or "git.properties" in seen.path[-2:]:
        name = "git-properties"
    return name, told + where


def _dated(seen: Seen, line: str) -> str:
    name = "/".join(seen.path[-2:]).lower()
    if "jaxb" in name or "jaxb" in line.lower():
        return "jaxb-date"
    if "javadoc" in line.lower() or 'name="date"' in line or 'name="dc.created"' in line:
        return "javadoc-date"
    if seen.path[-1] == "#" and seen.kind == "properties":
        return "java-properties-date"
    return "text-date"


def _line(seen: Seen, one: str, two: str) -> Named | None:
    told = f"{one.strip()[:160]} | {two.strip()[:160]}"
    for kind in _VALUES:
        ours, theirs = seen.ours.get(kind), seen.theirs.get(kind)
        if ours and theirs and ours != theirs and one.replace(ours, "\0") == two.replace(theirs, "\0"):
            name = "text-date" if kind == "time" else kind
            return name, f"{told}: equal but for each side's recorded {kind}"
    for name, words, leave in _MASKS:
        if leave(one) == leave(two):
            return name, f"{told}: equal without {words}"
    key = re.split(r"[=:]", one, maxsplit=1)[0]
    if key and key == re.split(r"[=:]", two, maxsplit=1)[0]:
        for name, pattern in (("host", _HOST_KEY), ("user", _USER_KEY), ("toolchain", _TOOL_KEY)):
            if pattern.search(key):
                return name, f"{told}: the values of {key.strip()!r}"
    if seen.path[-1].endswith((".less", ".css", ".scss")) and _COLOURS.sub("#", one) == _COLOURS.sub(
        "#", two
    ):
        return "random", f"{told}: equal without colours; suspected"
    return None


def _zoneless(text: str) -> str:
    return _WITH_ZONE.sub(r"\1", text)


def _pathless(text: str) -> str:
    return _PATHS.sub(lambda found: "\0" + found.group().rsplit("/", 1)[1], text)


def _plain(pattern: re.Pattern[str], word: str = "\0") -> Callable[[str], str]:
    return lambda text: pattern.sub(word, text)


#: Cause, words for it, and what leaves it out of a line: the narrow ones first.
_MASKS: Final[Sequence[tuple[str, str, Callable[[str], str]]]] = (
    ("time-zone", "their time zones", _zoneless),
    ("text-date", "their dates", _plain(_DATES)),
    ("path", "the folders in which something lies", _pathless),
    ("random", "their UUIDs; suspected", _plain(_UUIDS)),
    ("random", "the numbers of their objects; suspected", _plain(_IDENTITY)),
    ("random", "names of temporary files, or process numbers; suspected", _plain(_TEMPORARY)),
    ("content-hash", "the hashes in names", _plain(_HASHED)),
    ("locale", "the signs in their numbers", _plain(_SIGNS, "")),
    ("encoding", "what is no ASCII", _plain(_NOT_ASCII)),
    ("moving-download", "versions; suspected", _plain(_VERSIONS)),
)
