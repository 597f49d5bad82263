"""Finds and masks secrets in text that goes into the ledger, where what was written stays for ever.

Two degrees. What a build printed is *masked*, by every rule: a mask too many does no harm, and a report is
never held up. What a person or an agent writes is *refused*, and only for what is certain: a message about a
password is no password.

The rules are our own: some twenty regular expressions behind one cheap look at each line. detect-secrets
(the `scan` extra, 25 plugins without the entropy ones) was measured beside them on 64 KiB of CloudStack's
log: 0.42 s and 0.55 s to import, against 0.10 s; it has no rule for `x.password=…`, and it names a line but
no column, so that nothing can be masked by what it finds.

Linear time: every quantifier that could rescan a run is bounded, and a rule that starts with a run of
token characters starts only where no such character stands before it.
`tests/records/test_secrets.py::test_adversarial_text_is_masked_in_linear_time` holds this.

Non-guarantee: a secret without any shape and without a name beside it is not recognised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from pipeline.records.base import R

MASK = "*****"
#: So many characters before a secret are shown with its place.
_EXCERPT = 40

_KEY_BEGIN = re.compile(r"-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|^Private-Lines: \d")
_KEY_BODY = re.compile(r"[A-Za-z0-9+/=]{40}")
#: Lines in a row without a run like `_KEY_BODY`: a key's own headers and its last line are fewer.
_UNLIKE_LINES = 8
_KEY_END = re.compile(r"-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|^Private-MAC: ")
_KEY_WORDS = ("PRIVATE KEY", "Private-Lines")

#: A word that names a secret; what stands after it and `=` or `:` is masked.
_NAMES = (
    r"(?:passwor[dt]|passwd|passphrase|secret[_.-]?(?:access[_.-]?)?key|client[_.-]?secret|secret|"
    r"api[_.-]?key|access[_.-]?key|private[_.-]?key|(?:access|auth|id|refresh|bearer)[_.-]?token|_?authtoken|"
    # PWD=/some/folder is in every dump of an environment
    r"(?<![a-z])token|(?<![a-z])pwd(?=\s{0,3}[=:]\s{0,3}[^\s/]))"
)
#: A value that stands for a secret but is none: a placeholder, a literal, a mask.
_HARMLESS = re.compile(
    r"(?:\$\{[^}]*\}|\$\([^)]*\)|\$[A-Za-z_]\w*|%[\w.]+%|@[\w.]+@|<[^>]*>|\{[\w.]*\}|[*x.•-]+|null|none|nil|"
    r"true|false|yes|no|undefined|\(?unset\)?)",
    re.IGNORECASE,
)
_VALUE = (
    r"(?:\"(?P<{0}d>[^\"\n]{{1,400}})\"|'(?P<{0}s>[^'\n]{{1,400}})'|"
    r"(?P<{0}b>\$\{{[^}}\n]{{0,200}}\}}|[^\s,;\"'&|<>)\]}}]{{1,400}}))"
)

#: A fencing token of the ledger's own: epoch, counter, operation.
_FENCING_TOKEN = re.compile(r"[0-9]{1,9}\.[0-9]{1,12}\.[0-9a-f]{32}")
#: Words that follow `password:` in a sentence about one, or stand for a value in a usage line.
_PROSE = re.compile(
    r"(?:an?|and|argument|as|ask|at|authentication|based|by|can|cannot|changed|comes|empty|exchange|expected|"
    r"expired|field|file|flag|for|from|handling|has|have|if|in|incorrect|invalid|is|it|its|kept|key|last|"
    r"management|manager|may|missing|must|my|name|needed|no|not|of|old|on|one|option|or|our|path|per|required|"
    r"reset|rotated|rotation|same|see|sent|set|should|stays|still|stored|tbd|text|that|the|their|this|to|unchanged|"
    r"unexpected|unknown|unset|use|used|value|via|was|when|which|will|with|word|wrong|your)",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(rf"{_NAMES}|NAME|VALUE|WORD|KEY|FILE|PATH", re.IGNORECASE)
_SCHEME = re.compile(r"(?i:basic|bearer|digest|negotiate|token|aws4-hmac-sha256)\s+\S{6}|\S{16}")

#: Says whether a match is certain enough to refuse what somebody wrote.
Certain = Callable[[re.Match[str], str], bool]


def _named(match: re.Match[str], value: str) -> bool:
    """A value beside a name, unless the line is a sentence, or a token of some grammar."""
    value = value.rstrip("`.,:!?…")
    if _FENCING_TOKEN.fullmatch(value) or _PROSE.fullmatch(value):
        return False
    if value.isupper() and _PLACEHOLDER.fullmatch(value):
        return False
    if match.group().lower().startswith("token"):
        return len(value) >= 8 and any(char.isdigit() for char in value)
    return True


def _mixed(match: re.Match[str], value: str) -> bool:
    """What looks drawn, not spoken: digits among the letters."""
    return any(char.isdigit() for char in value) and any(char.isalpha() for char in value)


#: Every rule: its name, an expression whose last group (or whole, without groups) is the secret, and when a
#: match is certain; always, where nothing is said.
_RULES: tuple[tuple[str, str, Certain | None], ...] = (
    (
        "url_credentials",
        r"://[^\s/:@\"'<>]{0,120}:(?P<u>[^\s/@\"'<>]{1,300})@",
        lambda match, value: not _PLACEHOLDER.fullmatch(value),
    ),
    ("url_token", r"https?://(?P<v>[A-Za-z0-9_-]{20,300})@", None),
    (
        "github_token",
        r"(?<![A-Za-z0-9_])(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{22,255})",
        None,
    ),
    ("gitlab_token", r"(?<![A-Za-z0-9_])gl(?:pat|dt|rt|ptt|cbt|oas)-[A-Za-z0-9_-]{20,128}", None),
    ("slack_token", r"(?<![A-Za-z0-9_])xox[abeoprs]-[A-Za-z0-9-]{10,250}", None),
    (
        "slack_webhook",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<w>[A-Za-z0-9/_-]{8,200})",
        None,
    ),
    ("aws_key_id", r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])", None),
    ("google_key", r"(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])", None),
    ("npm_token", r"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])", None),
    ("pypi_token", r"(?<![A-Za-z0-9_-])pypi-[A-Za-z0-9_-]{50,300}", None),
    ("stripe_key", r"(?<![A-Za-z0-9_])[rs]k_(?:live|test)_[A-Za-z0-9]{16,200}", None),
    ("model_key", r"(?<![A-Za-z0-9_-])sk-[A-Za-z0-9_-]{32,250}", _mixed),
    (
        "jwt",
        r"(?<![A-Za-z0-9_.-])eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{8,4000}",
        None,
    ),
    (
        "authorization",
        r"(?i:\b(?:proxy-)?authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?)(?P<a>[^\"'\r\n]{1,600})",
        lambda match, value: _SCHEME.match(value) is not None,
    ),
    ("bearer", r"(?i:\bbearer\s{1,3})(?P<e>[A-Za-z0-9._~+/-]{16,600}=*)", _mixed),
    (
        "cookie",
        r"(?i:\bset-cookie:\s{0,3}|\bcookie:\s{0,3})(?P<c>[^\r\n]{1,600})",
        lambda match, value: re.match(r"[\w.-]{1,100}=[^\s;]{6}", value) is not None,
    ),
    ("named_value", rf"(?i:{_NAMES})(?:\]|\"|')?\s{{0,3}}(?::=|=>|=|:)\s{{0,3}}{_VALUE.format('n')}", _named),
    ("option_value", rf"(?<![\w-])--?(?i:[\w.-]{{0,40}}?{_NAMES})\s{{1,3}}{_VALUE.format('o')}", _named),
    ("xml_element", rf"<(?i:{_NAMES})>(?P<x>[^<\n]{{1,400}})</", None),
)


@cache
def _rules() -> tuple[tuple[str, re.Pattern[str], Certain | None], ...]:
    """Compiles the rules when the first line looks like one: most commands never see such a line."""
    return tuple((name, re.compile(pattern), certain) for name, pattern, certain in _RULES)


#: One cheap look that most lines of a log end at: none of these, no secret.
_HINT = re.compile(
    r"(?i:passw|passphrase|secret|token|api.?key|access.?key|private.?key|pwd|authorization|bearer|cookie)|://|"
    r"gh[pousr]_|github_pat_|gl(?:pat|dt|rt|ptt|cbt|oas)-|xox[abeoprs]-|hooks\.slack|A(?:KIA|SIA|BIA|CCA)|AIza|"
    r"npm_|pypi-|k_(?:live|test)_|sk-|eyJ"
)


class Found(NamedTuple):
    """One secret by its place. The value is deliberately not in it. `line` and `column` are 1-based."""

    rule: str
    line: int
    column: int
    length: int


class Leak(NamedTuple):
    """A secret in a value that somebody wrote: where, by which rule, and its line up to there, masked."""

    field: str
    line: int
    rule: str
    excerpt: str


class Masker:
    """Masks line by line; remembers between lines only whether it is inside a private key.

    A key whose end never comes ends where lines no longer look like one, so that a program that prints
    only the first line of a key does not hide the rest of a log.
    """

    def __init__(self) -> None:
        self._in_key = False
        self._unlike = 0

    def mask_line(self, line: str) -> str:
        """Returns the line, its end included, with every secret replaced by `MASK`."""
        spans = self._spans(line)
        if not spans:
            return line
        parts: list[str] = []
        at = 0
        for start, end, _ in spans:
            parts += [line[at:start], MASK]
            at = end
        return "".join(parts) + line[at:]

    def skip(self, line: bytes) -> None:
        """Follows the beginning and the end of private keys over a line that nobody will see."""
        if self._in_key or any(word.encode() in line for word in _KEY_WORDS):
            self._key_spans(line.decode(errors="replace"))

    @property
    def in_key(self) -> bool:
        """Says whether the next line is inside a private key."""
        return self._in_key

    def _spans(self, line: str, *, certain: bool = False) -> list[tuple[int, int, str]]:
        spans = []
        if self._in_key or any(word in line for word in _KEY_WORDS):
            spans = self._key_spans(line)
            if certain:  # the first line of a key can be quoted; what makes it one is its body
                spans = [span for span in spans if _KEY_BODY.search(line, span[0], span[1])]
        if _HINT.search(line):
            spans += _rule_spans(line, certain=certain)
        return _merged(spans)

    def _key_spans(self, line: str) -> list[tuple[int, int, str]]:
        spans = []
        at = 0
        if self._in_key and not self._still_a_key(line):
            return []
        while at < len(line):
            if not self._in_key:
                begin = _KEY_BEGIN.search(line, at)
                if begin is None:
                    break
                start, self._in_key = begin.end(), True
            else:
                start = at
            end = _KEY_END.search(line, start)
            stop = end.start() if end else len(line.rstrip("\r\n"))
            if stop > start:
                spans.append((start, stop, "private_key"))
            if end is None:
                break
            at, self._in_key = end.end(), False
        return spans

    def _still_a_key(self, line: str) -> bool:
        self._unlike = 0 if _KEY_BODY.search(line) else self._unlike + 1
        if self._unlike > _UNLIKE_LINES:
            self._in_key, self._unlike = False, 0
        return self._in_key


def _rule_spans(line: str, *, certain: bool) -> list[tuple[int, int, str]]:
    spans = []
    for name, pattern, is_certain in _rules():
        for match in pattern.finditer(line):
            group = match.lastgroup or 0
            value = match.group(group).strip()
            if not value or _HARMLESS.fullmatch(value):
                continue
            if not certain or is_certain is None or is_certain(match, value):
                spans.append((*match.span(group), name))
    return spans


def _merged(spans: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    merged: list[tuple[int, int, str]] = []
    for start, end, name in sorted(spans):
        if merged and start < merged[-1][1]:
            before = merged[-1]
            merged[-1] = (before[0], max(before[1], end), before[2])
        else:
            merged.append((start, end, name))
    return merged


def mask(text: str) -> str:
    """Returns the text with every secret replaced by `MASK`; masking twice changes nothing more."""
    masker = Masker()
    return "".join(masker.mask_line(line) for line in text.splitlines(keepends=True))


def find(text: str, *, certain: bool = False) -> list[Found]:
    """Returns the place of every secret in the text, in order, without any value.

    With `certain`, only of those that are refused in what a person writes.
    """
    return list(_found(text, certain=certain))


def _found(text: str, *, certain: bool) -> Iterator[Found]:
    masker = Masker()
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        for start, end, rule in masker._spans(line, certain=certain):
            if line[start:end] != MASK:
                yield Found(rule, number, start + 1, end - start)


def mask_values(value: Any) -> Any:
    """Returns a JSON value in which every text is masked, and whole where its name says that it is secret."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {key: MASK if _is_secret(key, inner) else mask_values(inner) for key, inner in value.items()}
    return [mask_values(inner) for inner in value] if isinstance(value, list | tuple) else value


def mask_record(record: R) -> R:
    """Returns a record without what looks like a secret."""
    return type(record).model_validate(mask_values(record.model_dump(mode="json", by_alias=True)))


def leak_in(value: Any, field: str = "") -> Leak | None:
    """Returns the first certain secret in a JSON value, its names included. `field` is what it is called."""
    if isinstance(value, str):
        found = next(iter(_found(value, certain=True)), None)
        return _leak(value, found, field) if found else None
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if (leak := leak_in(key, field)) is not None:
                return leak
            place = f"{field}.{key}" if field else str(key)
            if _is_secret(key, inner):
                return Leak(place, 1, "named_value", MASK)
            if (leak := leak_in(inner, place)) is not None:
                return leak
    if isinstance(value, list | tuple):
        leaks = (leak_in(inner, f"{field}.{number}") for number, inner in enumerate(value))
        return next((leak for leak in leaks if leak is not None), None)
    return None


@cache
def _secret_name() -> re.Pattern[str]:
    return re.compile(rf"(?:(?i:{_NAMES})|(?i:(?<![a-z])pwd))\Z")


def _is_secret(name: object, value: object) -> bool:
    """Says whether a value is secret because of its name alone: `{"db.password": "…"}`."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text.strip() or _HARMLESS.fullmatch(text.strip()) or _FENCING_TOKEN.fullmatch(text):
        return False
    return _secret_name().search(str(name)[-100:]) is not None


def _leak(text: str, found: Found, field: str) -> Leak:
    before = text.splitlines()[found.line - 1][: found.column - 1]
    return Leak(field, found.line, found.rule, mask(before)[-_EXCERPT:].lstrip() + MASK)
