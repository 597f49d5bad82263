"""Properties files and manifests: every byte has a place, and only what may be set is set."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from pipeline.compare.reader import manifests, properties
from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import Known
from tests.compare.containers import Bytes

PROPERTIES = (
    b"#Generated\n#Wed Nov 25 00:00:01 UTC 2026\n\n build.host = build1\r\ngit.path:/a\\:b\n"
    b"long=one\\\n #Wed Nov 25 00:00:01 UTC 2026\n!Wed Nov 25 00:00:01 UTC 2026\nlast"
)
MANIFEST = (
    b"Manifest-Version: 1.0\r\nBuilt-By: al\r\n ice\r\nClass-Path: /src\r\nBuild-Path: /src\r\n\r\n"
    b"Name: a/B.class\r\nBuilt-By: alice\r\nno header\n\r\n"
)
VALUES = {"host": b"build1", "user": b"alice", "path": b"/src"}
EVERY = ("properties-date", "value-host", "value-user", "value-path", "value-time")


def _said(module: ModuleType, data: bytes) -> object:
    with Bytes() as held:
        try:
            found = module.read(held.region(data), held.spool)
        except Unreadable as exc:
            return exc.reason
        return found.fields, found.digests(), [(row.name, row.values) for row in found.rows()]


def _written(module: ModuleType, data: bytes, *normalisers: str) -> bytes:
    with Bytes() as held:
        known = Known(None, VALUES)
        return b"".join(module.rewrite(held.region(data), normalisers, {}, held.spool, known))


@pytest.mark.parametrize(("module", "data"), [(properties, PROPERTIES), (manifests, MANIFEST)])
def test_each_byte_of_a_text_has_a_place(module: ModuleType, data: bytes) -> None:
    """Whichever byte changes, is left out or comes twice, something else is said."""
    before = _said(module, data)
    for at in range(len(data)):
        for changed in (
            data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
            data[:at] + data[at + 1 :],
            data[: at + 1] + data[at:],
        ):
            assert _said(module, changed) != before or changed == data, at


def test_nothing_but_the_comment_and_recorded_values_is_set() -> None:
    """A date in a comment of its own and whole values of fields about the build; nothing that goes on."""
    assert _written(properties, PROPERTIES, *EVERY) == (
        b"#Generated\n#Thu Jan 01 00:00:00 UTC 1970\n\n build.host = @recorded host@\r\ngit.path:/a\\:b\n"
        b"long=one\\\n #Wed Nov 25 00:00:01 UTC 2026\n!Wed Nov 25 00:00:01 UTC 2026\nlast"
    )


def test_nothing_but_recorded_values_of_the_main_section_is_set() -> None:
    """A value over two lines is one; a class path is none, and neither is what belongs to one entry."""
    assert _written(manifests, MANIFEST, *EVERY) == (
        b"Manifest-Version: 1.0\r\nBuilt-By: @recorded user@\r\nClass-Path: /src\r\n"
        b"Build-Path: @recorded path@\r\n\r\nName: a/B.class\r\nBuilt-By: alice\r\nno header\n\r\n"
    )


@pytest.mark.parametrize(("module", "data"), [(properties, PROPERTIES), (manifests, MANIFEST)])
def test_without_normalisers_nothing_changes(module: ModuleType, data: bytes) -> None:
    """Written anew after none, a file is the same bytes."""
    assert _written(module, data) == data


def test_a_date_twice_normalised_is_the_same() -> None:
    """What a normaliser was used on stays as it is when it is used again."""
    once = _written(properties, PROPERTIES, "properties-date")
    assert _written(properties, once, "properties-date") == once != PROPERTIES


def test_names_decide_what_is_a_manifest(tmp_path: Path) -> None:
    """A manifest is what stands where Java looks for it; a properties file has its suffix."""
    with Bytes() as held:
        region = held.region(b"A: b\n")
        assert manifests.matches(region, b"META-INF/MANIFEST.MF")
        assert not manifests.matches(region, b"MANIFEST.MF")
        assert properties.matches(region, b"a/b.properties")
        assert not properties.matches(held.region(b"A\0"), b"a/b.properties")
