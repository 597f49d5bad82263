"""This machine's settings: where each comes from, and who the machine is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigInvalid, IdentityUnknown
from pipeline.operations.settings import FarBuilder, LocalSettings, masked, resolve
from pipeline.records.builders import Builder
from pipeline.runtime import find_home, identify, make_refs

HOME = Path("/machine/.pipeline")


def origins(settings: LocalSettings) -> dict[str, tuple[str, str]]:
    """Returns each setting's shown value and origin."""
    return {row.name: (row.value, row.origin) for row in settings.rows}


def test_the_file_lies_over_what_is_built_in_and_the_environment_over_both() -> None:
    """Each setting is the nearest one, and says which that was."""
    text = 'ledger = "host:ledger.git"\nbuilder = "build1"\nheartbeat_seconds = 5'
    settings = resolve(HOME, text, {"PIPELINE_BUILDER": "build2", "PIPELINE_CACHE": "/big/cache"})
    shown = origins(settings)
    assert (settings.builder, settings.embedded) == ("build2", False)
    assert shown["ledger"] == ("host:ledger.git", "/machine/.pipeline/config.toml")
    assert shown["builder"] == ("build2", "$PIPELINE_BUILDER")
    assert shown["cache"] == ("/big/cache", "$PIPELINE_CACHE")
    assert shown["heartbeat_seconds"] == ("5.0", "/machine/.pipeline/config.toml")
    assert shown["work"] == ("/machine/.pipeline/work", "default")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('ledger = "../x.git"', "/machine/.pipeline/../x.git"),
        ('ledger = "x.git"', "/machine/.pipeline/x.git"),
        ('ledger = "host:x.git"', "host:x.git"),
        ('ledger = "ssh://host/x.git"', "ssh://host/x.git"),
        ('source = "./a:b"', "/machine/.pipeline/a:b"),
        ('recipe = "cloudstack-mirrored"', "cloudstack-mirrored"),
        ('recipe = "recipes/own.json"', "/machine/.pipeline/recipes/own.json"),
        ('work = "/big/work"', "/big/work"),
        ('work = "work"', "/machine/.pipeline/work"),
        ('machine_lock = "lock"', "/machine/.pipeline/lock"),
    ],
)
def test_a_relative_path_counts_from_the_file_that_names_it(written: str, meant: str) -> None:
    """Wherever a command is started, the settings of one file mean the same places."""
    settings = resolve(HOME, written, {})
    name = written.partition(" ")[0]
    assert (str(getattr(settings, name)), origins(settings)[name][0]) == (meant, meant)


def test_nothing_configured_is_the_embedded_default() -> None:
    """Without a file and variables the ledger lies in the home, and everything is marked as default."""
    settings = resolve(HOME, None, {})
    assert settings.embedded
    assert settings.ledger == "/machine/.pipeline/ledger.git"
    assert {row.origin for row in settings.rows} == {"default"}


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:sekret@host/x.git", "https://me:*****@host/x.git"),
        ("https://" + "Ab1" * 8 + "@host/x.git", "https://*****@host/x.git"),
        ("ssh://git@host/x.git", "ssh://git@host/x.git"),
        ("git@host:x.git", "git@host:x.git"),
        ("https://host/x.git", "https://host/x.git"),
    ],
)
def test_passwords_are_not_shown(address: str, shown: str) -> None:
    """The password of an address is masked where settings are shown; the user's name stays."""
    settings = resolve(HOME, f'ledger = "{address}"', {})
    assert settings.ledger == address
    assert masked(address) == origins(settings)["ledger"][0] == shown


def test_a_new_password_keeps_the_outbox() -> None:
    """The outbox and the clone belong to the repository, not to the credentials it is reached with."""

    def folder(address: str) -> Path:
        return make_refs(resolve(HOME, f'ledger = "{address}"', {})).clone.folder

    assert folder("https://me:old@host/x.git") == folder("https://me:new@host/x.git")
    assert folder("https://me:old@host/x.git") != folder("https://me:old@host/y.git")


def test_a_wrong_variable_is_named() -> None:
    """The variable and what was expected, not the file, are in the error."""
    with pytest.raises(ConfigInvalid, match=r"^\$PIPELINE_PATIENCE_SECONDS: `patience_seconds` is 'nan'"):
        resolve(HOME, None, {"PIPELINE_PATIENCE_SECONDS": "nan"})


def test_the_home_is_the_nearest(tmp_path: Path) -> None:
    """A `.pipeline` above the current directory is the home, unless the variable names another."""
    (tmp_path / ".pipeline").mkdir()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_home({}, deep).value == tmp_path / ".pipeline"
    named = find_home({"PIPELINE_HOME": "/elsewhere"}, deep)
    assert (named.value, named.origin) == (Path("/elsewhere"), "$PIPELINE_HOME")


def shared(tmp_path: Path, text: str = "") -> LocalSettings:
    """Settings of a machine with a shared ledger."""
    return resolve(tmp_path / ".pipeline", f'ledger = "host:x.git"\n{text}', {})


def nobody() -> list[Builder]:
    """A registry without this host."""
    return [Builder(name="build1", host="one"), Builder(name="build2")]


def test_a_machine_is_who_it_is_told_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting goes before the variable, that before the file, that before the registry."""
    (tmp_path / ".build_server_id").write_text("build3\n")
    found = identify(shared(tmp_path), nobody)
    assert (found.value, found.origin) == ("build3", str(tmp_path / ".build_server_id"))
    monkeypatch.setenv("SERVER_ID", "build4")
    assert identify(shared(tmp_path), nobody).value == "build4"
    assert identify(shared(tmp_path, 'builder = "build5"'), nobody).value == "build5"


def test_the_registry_knows_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostname that one builder of the registry has is that builder, in upper or lower case."""
    monkeypatch.setattr("socket.gethostname", lambda: "LL-Two")
    found = identify(shared(tmp_path), lambda: [*nobody(), Builder(name="build7", host="ll-two")])
    assert (found.value, found.origin) == ("build7", "the registry: host LL-Two")


@pytest.mark.parametrize("builders", [[], [Builder(name="a", host="two"), Builder(name="b", host="two")]])
def test_no_machine_takes_anothers_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builders: list[Builder]
) -> None:
    """A host that nobody or more than one is refuses to be anybody."""
    monkeypatch.setattr("socket.gethostname", lambda: "two")
    with pytest.raises(IdentityUnknown) as refused:
        identify(shared(tmp_path), lambda: builders)
    assert "two" in refused.value.message
    assert "config.toml" in (refused.value.remedy or "")


def test_other_builders_are_set_by_name() -> None:
    """What this machine knows of another builder by itself is shown with the rest."""
    text = '[builders.build2]\nroot = "/srv/artifacts"\naddress = "b2"\nport = 2222\nuser = "me"'
    settings = resolve(HOME, text, {})
    assert settings.builders == {"build2": FarBuilder(Path("/srv/artifacts"), "b2", 2222, "me")}
    assert origins(settings)["builders.build2.port"] == ("2222", "/machine/.pipeline/config.toml")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("builders = 1", "`builders`"),
        ("[builders]\nbuild2 = 1", "`builders.build2`"),
        ('[builders."-x"]\nroot = "/x"', "`builders.-x`"),
        ('[builders.build2]\nrot = "/x"', "`builders.build2.rot`"),
        ('[builders.build2]\nroot = "x"', "`builders.build2.root`"),
        ('[builders.build2]\nroot = ""', "`builders.build2.root`"),
        ("[builders.build2]\nroot = 1", "`builders.build2.root`"),
        ('[builders.build2]\naddress = "-oX=y"', "`builders.build2`"),
        ('[builders.build2]\naddress = "a\\nb"', "`builders.build2.address`"),
        ('[builders.build2]\nport = "22"', "`builders.build2.port`"),
        ("[builders.build2]\nport = true", "`builders.build2.port`"),
        ('[builders.build2]\nuser = "-l"', "`builders.build2`"),
        ('[builders.build2]\nhost_key = "x"', "`builders.build2`"),
        ('[builders.build2]\nmachine_id = "x"', "`builders.build2.machine_id`"),
    ],
)
def test_a_builder_that_is_set_wrong_is_named(text: str, named: str) -> None:
    """A wrong name, table or value is refused with its place in the file."""
    with pytest.raises(ConfigInvalid, match=r"config\.toml") as caught:
        resolve(HOME, text, {})
    assert named in caught.value.message
