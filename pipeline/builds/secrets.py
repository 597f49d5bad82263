"""Finds and masks secrets in text that goes into the ledger, where an excerpt stays for ever.

The rules are our own: some twenty regular expressions behind one cheap look at each line. detect-secrets
(the `scan` extra, 25 plugins without the entropy ones) was measured beside them on 64 KiB of CloudStack's
log: 0.42 s and 0.55 s to import, against 0.10 s; it has no rule for `x.password=…`, and it names a line but
no column, so that nothing can be masked by what it finds.

Linear time: every quantifier that could rescan a run is bounded, and a rule that starts with a run of
token characters starts only where no such character stands before it.
`tests/builds/test_secrets.py::test_adversarial_text_is_masked_in_linear_time` holds this.

Non-guarantee: a secret without any shape and without a name beside it is not recognised.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

MASK = "*****"

_KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_BODY = re.compile(r"[A-Za-z0-9+/=]{40}")
#: Lines in a row without a run like `_KEY_BODY`: a key's own headers and its last line are fewer.
_UNLIKE_LINES = 8
_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")

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

#: Every rule: its name, and an expression whose groups (or whole, without groups) are the secret.
_RULES: tuple[tuple[str, str], ...] = (
    ("url_credentials", r"://[^\s/:@\"'<>]{0,120}:(?P<u>[^\s/@\"'<>]{1,300})@"),
    ("url_token", r"https?://(?P<v>[A-Za-z0-9_-]{20,300})@"),
    ("github_token", r"(?<![A-Za-z0-9_])(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{22,255})"),
    ("gitlab_token", r"(?<![A-Za-z0-9_])gl(?:pat|dt|rt|ptt|cbt|oas)-[A-Za-z0-9_-]{20,128}"),
    ("slack_token", r"(?<![A-Za-z0-9_])xox[abeoprs]-[A-Za-z0-9-]{10,250}"),
    ("slack_webhook", r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<w>[A-Za-z0-9/_-]{8,200})"),
    ("aws_key_id", r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ("google_key", r"(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    ("npm_token", r"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    ("pypi_token", r"(?<![A-Za-z0-9_-])pypi-[A-Za-z0-9_-]{50,300}"),
    ("stripe_key", r"(?<![A-Za-z0-9_])[rs]k_(?:live|test)_[A-Za-z0-9]{16,200}"),
    ("model_key", r"(?<![A-Za-z0-9_-])sk-[A-Za-z0-9_-]{32,250}"),
    ("jwt", r"(?<![A-Za-z0-9_.-])eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{8,4000}"),
    (
        "authorization",
        r"(?i:\b(?:proxy-)?authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?)(?P<a>[^\"'\r\n]{1,600})",
    ),
    ("bearer", r"(?i:\bbearer\s{1,3})(?P<e>[A-Za-z0-9._~+/-]{16,600}=*)"),
    ("cookie", r"(?i:\bset-cookie:\s{0,3}|\bcookie:\s{0,3})(?P<c>[^\r\n]{1,600})"),
    ("named_value", rf"(?i:{_NAMES})(?:\]|\"|')?\s{{0,3}}(?::=|=>|=|:)\s{{0,3}}{_VALUE.format('n')}"),
    ("option_value", rf"(?<![\w-])--?(?i:[\w.-]{{0,40}}?{_NAMES})\s{{1,3}}{_VALUE.format('o')}"),
    ("xml_element", rf"<(?i:{_NAMES})>(?P<x>[^<\n]{{1,400}})</"),
)
_COMPILED = tuple((name, re.compile(pattern)) for name, pattern in _RULES)
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
        if self._in_key or b"PRIVATE KEY" in line:
            self._key_spans(line.decode(errors="replace"))

    @property
    def in_key(self) -> bool:
        """Says whether the next line is inside a private key."""
        return self._in_key

    def _spans(self, line: str) -> list[tuple[int, int, str]]:
        spans = self._key_spans(line) if self._in_key or "PRIVATE KEY" in line else []
        if _HINT.search(line):
            spans += _rule_spans(line)
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


def _rule_spans(line: str) -> list[tuple[int, int, str]]:
    spans = []
    for name, pattern in _COMPILED:
        for match in pattern.finditer(line):
            group = match.lastgroup or 0
            value = match.group(group)
            if value.strip() and not _HARMLESS.fullmatch(value.strip()):
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


def find(text: str) -> list[Found]:
    """Returns the place of every secret in the text, in order, without any value."""
    return list(_found(text))


def _found(text: str) -> Iterator[Found]:
    masker = Masker()
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        for start, end, rule in masker._spans(line):
            if line[start:end] != MASK:
                yield Found(rule, number, start + 1, end - start)
