"""What a side recorded of where it was built, set to one word in fields that tell of the build."""

from __future__ import annotations

import re
from typing import Collection, Dict, Mapping

from pipeline.compare.reader.limits import Unreadable

#: Of each: the normaliser's name, and the word that takes the value's place.
KINDS = ("host", "user", "path", "time")

NORMALISERS: Dict[str, str] = {
    "value-%s" % kind: "the recorded %s of that side, where a field about the build has that value" % kind
    for kind in KINDS
}

#: A field that tells of the build. Nothing that runs reads one; a class path or a main class is none.
_ABOUT = re.compile(rb"(?i)(^|[^a-z])(built|build|git|scm|vcs|commit|generated|compiled)([^a-z]|$)")


def replaced(name: bytes, value: bytes, chosen: Collection[str], values: Mapping[str, bytes]) -> bytes:
    """Returns a field's value, or a word for it where it equals the recorded one: all of it, not a part.

    Raises Unreadable where a value is such a word already: then it could pass for what it replaces.
    """
    if not chosen or not _ABOUT.search(name):
        return value
    for kind in KINDS:
        if "value-%s" % kind in chosen:
            word = b"@recorded %s@" % kind.encode()
            if word in value:
                raise Unreadable("has a field whose value is %s" % word.decode())
            if values.get(kind) and value == values[kind]:
                return word
    return value
