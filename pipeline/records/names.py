"""Names that reach paths, refs and command lines, and the one rule for each."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from pipeline.errors import UsageError

_BUILDER = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_OID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")
_LOCK = re.compile(r"[a-z0-9][a-z0-9_-]*(?:/[a-z0-9][a-z0-9_.-]*){0,3}\Z")
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\A[-/.]|/\.|/\Z|\.lock(?:/|\Z)|\.\Z|\A@\Z")


def _builder(value: str) -> str:
    if not _BUILDER.match(value):
        raise ValueError("a builder's name is a lower-case letter, then letters, digits, - or _")
    return value


def _oid(value: str) -> str:
    if not _OID.match(value):
        raise ValueError("a commit id is 40 or 64 hexadecimal digits")
    return value


def _job(value: str) -> str:
    if not _JOB.match(value) or ".." in value:
        raise ValueError("a job id is made of letters, digits, '_', '-' and '.'")
    return value


def _lock(value: str) -> str:
    if not _LOCK.match(value) or ".." in value:
        raise ValueError("a lock is named by one to four words of a-z, 0-9, _, - and ., joined by /")
    return value


def _branch(value: str) -> str:
    if not value or len(value) > 200 or _BAD_REF.search(value):
        raise ValueError("not a branch name that git allows")
    return value


BuilderName = Annotated[str, AfterValidator(_builder)]
Oid = Annotated[str, AfterValidator(_oid)]
JobId = Annotated[str, AfterValidator(_job)]
LockName = Annotated[str, AfterValidator(_lock)]
BranchName = Annotated[str, AfterValidator(_branch)]

_RULES = {"builder": _builder, "commit": _oid, "job": _job, "lock": _lock, "branch": _branch}


def check_name(kind: str, value: str) -> str:
    """Returns a name given on a command line, or raises UsageError. `kind` is a key of `_RULES`."""
    try:
        return _RULES[kind](value)
    except ValueError as exc:
        raise UsageError(f"{value!r} cannot be the name of a {kind}: {exc}") from exc


def is_name(kind: str, value: str) -> bool:
    """Says whether something can be a name of that kind."""
    try:
        _RULES[kind](value)
    except ValueError:
        return False
    return True
