"""A side of a comparison as it is typed: which machine and which folder that is, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.edge.hosts import Host
from pipeline.errors import LedgerUnreachable, UsageError
from pipeline.operations.places import Known, Place, place_of
from pipeline.operations.settings import FarBuilder
from pipeline.records.builders import Builder

REGISTRY = [
    Builder(name="build1", address="10.0.0.1"),
    Builder(name="build2", address="10.0.0.2", user="builder"),
    Builder(name="build3", host="host3"),
    Builder(name="evil", address="-oProxyCommand=touch planted"),
]


def known(**settings: FarBuilder) -> Known:
    """Returns what `build1` knows of the others."""
    return Known(lambda: "build1", Path("/var/artifacts"), settings, lambda: REGISTRY)


def nobody() -> list[Builder]:
    """Stands for a ledger that does not answer."""
    raise LedgerUnreachable("no answer")


def test_paths_are_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is one, whatever characters it has; the ledger is not asked."""
    monkeypatch.chdir(tmp_path)
    for name in ("sub", "a:b", "-rf", "UPPER"):
        (tmp_path / name).mkdir()
    asked = Known(registered=nobody)
    for word in (str(tmp_path / "sub"), "./sub", "../" + tmp_path.name + "/sub", "./a:b", "-rf", "UPPER"):
        place = place_of(word, "--left", asked)
        assert (place.host, place.builder, place.path.exists()) == (None, None, True)


def test_a_builders_name_is_that_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also beside a folder of that name: the ledger's working copy has one. `./` means the folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build2").mkdir()
    place = place_of("build2", "--right", known(build2=FarBuilder(root=Path("/srv"))))
    assert place == Place(Path("/srv"), Host("10.0.0.2", "builder"), "build2", None, "build2")
    assert place_of("./build2", "--right", known()).host is None


def test_this_machines_own_name_is_its_own_folder() -> None:
    """Its artifacts are read without SSH."""
    assert place_of("build1", "--left", known()) == Place(
        Path("/var/artifacts"), None, "build1", None, "build1"
    )


def test_a_folder_never_comes_from_the_ledger() -> None:
    """A builder whose folder is not set here and was not typed is refused, with both ways to say it."""
    with pytest.raises(UsageError, match="'build2': where that builder keeps its artifacts") as caught:
        place_of("build2", "--right", known())
    assert "build2:/PATH" in str(caught.value.remedy)
    assert "[builders.build2]" in str(caught.value.remedy)
    assert place_of("build2:/srv/x", "--right", known()).path == Path("/srv/x")


def test_what_is_set_here_goes_before_the_registry() -> None:
    """Address, port, user and pins are this machine's own where it has them; then no ledger is needed."""
    far = FarBuilder(Path("/srv"), "there", 2222, "me", "SHA256:" + "a" * 43, "0" * 31 + "1")
    asked = Known(settings={"build2": far}, registered=nobody)
    host = Host("there", "me", 2222, far.host_key)
    assert place_of("build2", "--left", asked) == Place(
        Path("/srv"), host, "build2", far.machine_id, "build2"
    )


def test_a_builder_without_an_address_is_its_host() -> None:
    """What the registry lacks, ssh's own configuration may know by the host's name."""
    assert place_of("build3:/x", "--left", known()).host == Host("host3", "root")


@pytest.mark.parametrize(
    "word", ["evil:/x", "-oProxyCommand=x:/y", "a b:/c", "`x`:/y", "-l@host:/x", "@host:/x"]
)
def test_an_address_that_is_an_option_is_refused(word: str) -> None:
    """Typed or out of the registry: nothing that begins like an option, and no command, is an address."""
    with pytest.raises(UsageError):
        place_of(word, "--left", known())


@pytest.mark.parametrize(
    ("word", "host", "path"),
    [
        ("me@there:/a/b", Host("there", "me"), "/a/b"),
        ("There:/a", Host("There"), "/a"),
        ("me@[::1]:/a", Host("::1", "me"), "/a"),
        ("me@build2:/a", Host("build2", "me"), "/a"),
        ("me@there:/a b/`c`/$(d);e:/f", Host("there", "me"), "/a b/`c`/$(d);e:/f"),
        ("ssh://there/a", Host("there"), "/a"),
        ("ssh://me@there:2222/a?b#c", Host("there", "me", 2222), "/a?b#c"),
        ("ssh://me@[::1]:2222/a", Host("::1", "me", 2222), "/a"),
    ],
)
def test_other_machines_are_written_as_scp_and_git_write_them(word: str, host: Host, path: str) -> None:
    """The machine, and the path as it stands there; what is typed is how it is told of."""
    place = place_of(word, "--left", Known(registered=list))
    assert (place.host, str(place.path), place.name, place.builder) == (host, path, word, None)


@pytest.mark.parametrize(
    "word", ["", "/does/not/exist", "nobody", "there:relative", "ssh://there", "ssh:///x", "ssh://a:b@c/d", "ssh://a:x/d"]
)  # fmt: skip
def test_what_is_nothing_is_refused(word: str) -> None:
    """Neither a path here nor another machine's: told with the option and the word."""
    with pytest.raises(UsageError, match="--right"):
        place_of(word, "--right", known())


def test_a_ledger_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that may be a builder is never taken for a folder because nobody can be asked."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build2").mkdir()
    with pytest.raises(
        LedgerUnreachable, match="Whether --left 'build2' is a builder cannot be told"
    ) as caught:
        place_of("build2", "--left", Known(registered=nobody))
    assert "./build2" in str(caught.value.remedy)
