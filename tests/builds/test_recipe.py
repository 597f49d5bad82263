"""Promises of the recipe: which layer wins, what is in it, and what is refused with which words."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.builds import recipe
from pipeline.builds.recipe import CommitFacts, RecipeFile, RecipeOverrides
from pipeline.edge.process import run
from pipeline.errors import ConfigInvalid, RecordInvalid
from pipeline.records.base import dump, load
from pipeline.records.builds import BuildConfig, Recipe, Toolchain

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "shared" / "recipes"
COMMIT = CommitFacts("https://bob:pw@git.example.org/cs.git", "ExternalNew", "a" * 40, 1_761_533_612)
TOOLS = Toolchain(java="17.0.9+9", java_home="/jdk", maven="3.9.6", maven_home="/maven", node="v20.1.0")
NO_OVERRIDES = RecipeOverrides()


def config(**build: Any) -> BuildConfig:
    return BuildConfig.model_validate({"build": build})


def settle(
    build: dict[str, Any] | None = None,
    branch: dict[str, Any] | None = None,
    file: dict[str, Any] | None = None,
    overrides: RecipeOverrides = NO_OVERRIDES,
) -> recipe.Settings:
    """Settles four layers for ExternalNew."""
    parts = {"build": build or {}, "branches": {"ExternalNew": branch or {}}}
    read = None if file is None else RecipeFile("r.json", file, Path("/recipes"))
    return recipe.settle(BuildConfig.model_validate(parts), overrides, "ExternalNew", read)


def resolved(settings: recipe.Settings, tools: Toolchain = TOOLS) -> Recipe:
    return recipe.resolve(settings, NO_OVERRIDES, COMMIT, tools)


def test_the_later_layer_wins_and_is_named() -> None:
    """Built in, build, branch, recipe file, command line: each beats the one before it, and is the origin."""
    layers: list[tuple[str, dict[str, Any]]] = [
        ("shared/build_config.json: build", {"build": {"timeout_seconds": 1}}),
        ("shared/build_config.json: branches.ExternalNew", {"branch": {"timeout_seconds": 2}}),
        ("r.json", {"file": {"timeout_seconds": 3}}),
        ("command line", {"overrides": RecipeOverrides(timeout_seconds=4)}),
    ]
    assert settle().origin("timeout_seconds") == "built in"
    given_: dict[str, Any] = {}
    for expected, (origin, layer) in enumerate(layers, 1):
        given_ |= layer
        settings = settle(**given_)
        assert settings.build.timeout_seconds == expected
        assert settings.origin("timeout_seconds") == origin


def test_properties_are_laid_over_each_other_by_name() -> None:
    """A layer that sets one property leaves the others of the layers below alone."""
    settings = settle({"properties": {"a": "1", "b": "1"}}, file={"properties": {"b": "2"}})
    assert settings.build.properties == {"a": "1", "b": "2"}
    assert settings.origin("properties.a") == "shared/build_config.json: build"
    assert settings.origin("properties.b") == "r.json"


def test_null_takes_a_property_out_again() -> None:
    """Null in a higher layer removes a property, even one that follows from the commit."""
    settings = settle({"properties": {"a": "1"}}, file={"properties": {"a": None, "git.tag": None}})
    made = resolved(settings)
    assert "a" not in made.properties
    assert "git.tag" not in made.properties
    assert "git.revision" in made.properties


def test_another_branch_s_settings_do_not_apply() -> None:
    """Settings of one branch are no settings of another."""
    both = BuildConfig.model_validate({"branches": {"other": {"skip_tests": False}}})
    assert recipe.settle(both, NO_OVERRIDES, "ExternalNew").build.skip_tests is True
    assert recipe.settle(both, NO_OVERRIDES, "other").build.skip_tests is False


def test_the_recipe_file_is_named_by_the_nearest_layer() -> None:
    """Command line over branch over build."""
    both = BuildConfig.model_validate({"build": {"recipe": "a"}, "branches": {"x": {"recipe": "b"}}})
    assert recipe.recipe_name(both, NO_OVERRIDES, "other") == "a"
    assert recipe.recipe_name(both, NO_OVERRIDES, "x") == "b"
    assert recipe.recipe_name(both, RecipeOverrides(recipe="c"), "x") == "c"


def test_what_can_change_the_result_is_in_the_recipe() -> None:
    """Commit time, time zone, locale, umask, Java, and a jar's time stamp are inputs by name."""
    made = resolved(settle())
    assert made.environment["SOURCE_DATE_EPOCH"] == "1761533612"
    assert (made.timezone, made.locale, made.umask) == ("UTC", "C.UTF-8", "022")
    assert made.environment["TZ"] == "UTC"
    assert made.environment["JAVA_HOME"] == "/jdk"
    assert made.environment["MAVEN_SKIP_RC"] == "1"
    assert made.properties["project.build.outputTimestamp"] == "2025-10-27T02:53:32Z"
    assert made.properties["git.revision"] == COMMIT.commit
    assert made.toolchain == TOOLS


def test_equal_inputs_give_equal_bytes() -> None:
    """Two machines that resolve the same settings write the same recipe."""
    assert dump(resolved(settle())) == dump(resolved(settle()))


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("v16.20.2", "--max-old-space-size=8192"),
        ("v17.0.0", "--max-old-space-size=8192 --openssl-legacy-provider"),
        ("v20.1.0", "--max-old-space-size=8192 --openssl-legacy-provider"),
        (None, None),
    ],
)
def test_node_is_given_only_options_that_it_knows(node: str | None, expected: str | None) -> None:
    """Node before 17 refuses to start with the provider option, and without Node there is no option."""
    tools = TOOLS.model_copy(update={"node": node})
    assert resolved(settle(), tools).environment.get("NODE_OPTIONS") == expected


def test_a_node_of_the_recipe_is_the_one_that_counts() -> None:
    """The pipeline's own Node stands in the recipe's toolchain instead of the machine's."""
    made = resolved(settle(file={"substitutes": {"node_version": "16.20.2"}}))
    assert made.toolchain is not None
    assert made.toolchain.node == "v16.20.2"
    assert "openssl" not in made.environment["NODE_OPTIONS"]


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("https://bob:pw@git.example.org/cs.git", "https://git.example.org/cs.git"),
        ("https://token@git.example.org/cs.git", "https://git.example.org/cs.git"),
        ("ssh://git@git.example.org/cs.git", "ssh://git@git.example.org/cs.git"),
        ("ssh://git:pw@git.example.org/cs.git", "ssh://git.example.org/cs.git"),
        ("git@git.example.org:cs.git", "git@git.example.org:cs.git"),
        ("/srv/cs.git", "/srv/cs.git"),
    ],
)
def test_no_credentials_get_into_the_recipe(source: str, kept: str) -> None:
    """User and password of an address are left out, the user of an SSH address is kept."""
    assert recipe.without_credentials(source) == kept


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"timeout_seconds": "soon"}, "timeout_seconds", "integer"),
    ({"timeout_seconds": 0}, "timeout_seconds", "out of range"),
    ({"parallel_builds": -1}, "parallel_builds", "0 to 1024"),
    ({"profiles": ["a b"]}, "profiles", "name of a profile"),
    ({"properties": {"a b": "1"}}, "properties.a b", "not a name"),
    ({"properties": {"a": "x\ny"}}, "properties.a", "line break"),
    ({"properties": {"db.password": "hunter2"}}, "properties.db.password", "looks like a secret"),
    ({"properties": ["a"]}, "properties", "expected an object"),
    ({"environment": {"HOME": "/x"}}, "environment.HOME", "sets it itself"),
    ({"environment": {"MAVEN_OPTS": "-Xmx1g"}}, "environment.MAVEN_OPTS", "sets it itself"),
    ({"java": {"version": "seventeen"}}, "java.version", "no major version"),
    ({"substitutes": {"node_version": "18"}}, "substitutes.node_version", "no whole version"),
    ({"substitutes": {"jars": [{}]}}, "substitutes.jars.0.coordinates", "required"),
    (
        {"substitutes": {"jars": [{"coordinates": "a:b", "source": "a:b:1", "sha256": "0" * 64}]}},
        "substitutes.jars.0.coordinates",
        "group:artifact:version",
    ),
    (
        {"substitutes": {"downloads": [{"url": "https://x.org/a", "sha256": "0" * 64, "text": "a"}]}},
        "substitutes.downloads.0.sha256",
        "another digest",
    ),
    (
        {"substitutes": {"downloads": [{"url": "ftp://x.org/a", "sha256": "0" * 64, "text": "a"}]}},
        "substitutes.downloads.0.url",
        "no address",
    ),
    ({"skip_test": True}, "skip_test", "no such setting"),
]


@pytest.mark.parametrize(("values", "field", "words"), BAD, ids=[one[1] for one in BAD])
def test_a_bad_value_is_refused_by_file_and_field(
    values: dict[str, Any], field: str, words: str, tmp_path: Path
) -> None:
    """The error names the file, the field, what is wrong, and what to do."""
    (tmp_path / "bad.json").write_text(json.dumps(values))
    with pytest.raises(ConfigInvalid) as caught:
        recipe.settle(BuildConfig(), NO_OVERRIDES, "x", recipe.read_recipe_file("bad", tmp_path))
    assert f"setting `{field}`" in caught.value.message
    assert "`bad.json`" in caught.value.message
    assert words in caught.value.message
    assert caught.value.remedy


def test_a_slip_in_a_recipe_file_is_corrected() -> None:
    """A misspelt setting is refused with the one that is meant."""
    with pytest.raises(ConfigInvalid) as caught:
        recipe.rules.check_layer({"profile": []}, "r.json", strict=True)
    assert caught.value.remedy == "Did you mean `profiles`?"


def test_names_of_other_tools_in_a_branch_are_left_alone() -> None:
    """What older tools keep beside a branch's settings is no error, but a near miss is one."""
    settle(branch={"enabled": True, "auto_build": False, "repo_path": "/x", "schedule": "0 3 * * *"})
    with pytest.raises(ConfigInvalid, match=r"branches\.ExternalNew.*skip_test"):
        settle(branch={"skip_test": True})


@pytest.mark.parametrize("name", ["two", "t\0wo"])
def test_a_recipe_that_is_not_there_names_those_that_are(name: str, tmp_path: Path) -> None:
    """A wrong name is answered with the right ones."""
    (tmp_path / "one.json").write_text("{}")
    with pytest.raises(ConfigInvalid) as caught:
        recipe.read_recipe_file(name, tmp_path)
    assert caught.value.remedy is not None
    assert "one" in caught.value.remedy


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b"\xff", b'"x"', b"null"])
def test_a_recipe_file_that_is_no_object_is_refused(data: bytes, tmp_path: Path) -> None:
    """Whatever bytes a file holds, the answer is one of the two errors."""
    (tmp_path / "r.json").write_bytes(data)
    with pytest.raises((ConfigInvalid, RecordInvalid)) as caught:
        recipe.read_recipe_file("r", tmp_path)
    assert "r.json" in caught.value.message


def test_a_broken_recipe_file_is_named_with_its_folder(tmp_path: Path) -> None:
    """It lies on this machine: the error says where, and does not send anybody to the ledger's history."""
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(RecordInvalid) as caught:
        recipe.read_recipe_file(str(tmp_path / "r.json"), tmp_path)
    assert caught.value.path == str(tmp_path / "r.json")
    assert caught.value.remedy == "Correct the recipe file."


def test_a_recipe_without_end_is_refused() -> None:
    """A device or a huge file is no recipe, and is not read to its end."""
    with pytest.raises(ConfigInvalid, match="more than 1,000,000 bytes"):
        recipe.read_recipe_file("/dev/zero", RECIPES)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(
        ["profiles", "properties", "environment", "substitutes", "jars", "downloads", "java", "maven_opts",
         "timeout_seconds", "file", "sha256", "url", "home", "version"]), inner, max_size=4)
), max_leaves=12))  # fmt: skip
def test_no_recipe_file_makes_a_traceback(values: Any) -> None:
    """Any JSON is taken, or refused with ConfigInvalid."""
    try:
        recipe.rules.check_layer(values, "r.json", strict=True)
        recipe.rules.check_pinned_files(values, "r.json", Path("/nonexistent"))
        recipe.settle(BuildConfig(), NO_OVERRIDES, "x", RecipeFile("r.json", values, Path("/nonexistent")))
    except ConfigInvalid:
        pass


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b"])
def test_a_pinned_file_stays_beside_its_recipe(name: str, tmp_path: Path) -> None:
    """A recipe cannot serve files from elsewhere."""
    entry = {"url": "https://x.org/a", "sha256": "0" * 64, "file": name}
    (tmp_path / "r.json").write_text(json.dumps({"substitutes": {"downloads": [entry]}}))
    with pytest.raises(ConfigInvalid, match="leaves the recipe's folder"):
        recipe.read_recipe_file("r", tmp_path)


def test_a_pinned_file_with_other_bytes_is_refused(tmp_path: Path) -> None:
    """The digest in the recipe is held against the file when the recipe is read."""
    (tmp_path / "pin").write_bytes(b"abc")
    entry = {"url": "https://x.org/a", "sha256": "0" * 64, "file": "pin"}
    (tmp_path / "r.json").write_text(json.dumps({"substitutes": {"downloads": [entry]}}))
    with pytest.raises(ConfigInvalid) as caught:
        recipe.read_recipe_file("r", tmp_path)
    assert hashlib.sha256(b"abc").hexdigest() in (caught.value.remedy or "")


def test_explain_has_every_setting_and_what_follows() -> None:
    """Each row has an origin; what the commit and the tools add is among them."""
    settings = settle({"skip_tests": False}, file={"environment": {"A": "1"}})
    rows = {row.name: row for row in recipe.explain(settings, resolved(settings))}
    assert rows["skip_tests"].origin == "shared/build_config.json: build"
    assert rows["environment.A"].origin == "r.json"
    assert rows["environment.SOURCE_DATE_EPOCH"].origin == "the commit"
    assert rows["properties.git.revision"].origin == "the commit"
    assert rows["toolchain.maven"].value == "3.9.6"
    assert rows["minimum_disk_gb"].origin == "built in"
    assert list(rows) == sorted(rows)


def test_maven_is_told_everything_of_the_recipe() -> None:
    """Properties, tests, threads and keep-going are Maven's arguments; substitutes win over properties."""
    made = resolved(settle({"properties": {"p": "1"}, "substitutes": {"properties": {"p": "{loopback}"}}}))
    made = made.model_copy(update={"threads": 4, "keep_going": True})
    words = recipe.maven_arguments(made, {"p": "http://127.0.0.1:9"})
    assert "-Dp=http://127.0.0.1:9" in words
    assert "-Dp=1" not in words
    assert "-DskipTests" in words
    assert words[-3:] == ["-T", "4", "--fail-at-end"]


@given(st.lists(st.text(alphabet="ab$'\"\\ ;&|(){}#%!*~`=-", max_size=12), max_size=4))
def test_words_survive_the_shell(words: list[str]) -> None:
    """A shell takes the text apart into the same words, once make has read its dollars."""
    text = recipe.make_words(words).replace("$$", "$")
    assert shlex.split(text) == words


def test_words_survive_make_and_its_shell(tmp_path: Path) -> None:
    """What goes through ACS_BUILD_OPTS in a makefile arrives as it was."""
    words = ["-Dgit.branch=a;touch evil", "-Dx=$HOME `id` $(id)", "it's", 'say "no"', "#c", "100%"]
    (tmp_path / "Makefile").write_text("all:\n\t@for w in ${OPTS}; do printf '%s\\n' \"$$w\"; done\n")
    done = run(["make", "-s"], cwd=tmp_path, env={"OPTS": recipe.make_words(words), "PATH": "/usr/bin:/bin"})
    assert done.text.splitlines() == words
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.json")))
def test_shipped_recipes_are_valid(name: str) -> None:
    """Every recipe of the project settles, and its pinned files are what it says."""
    file = recipe.read_recipe_file(name, RECIPES)
    settings = recipe.settle(BuildConfig(), NO_OVERRIDES, "ExternalNew", file)
    assert settings.recipe_folder == RECIPES


def test_the_mirrored_recipe_holds_every_substitute() -> None:
    """All obstacles that were met have their substitute in the file."""
    file = recipe.read_recipe_file("cloudstack-mirrored", RECIPES)
    made = resolved(recipe.settle(BuildConfig(), NO_OVERRIDES, "ExternalNew", file))
    wanted = made.substitutes
    assert wanted.mirror_central
    assert wanted.refuse_unpinned
    assert wanted.properties["cs.opensaml.version"] == "2.6.4"
    assert wanted.properties["project.systemvm.template.location"] == "{loopback}"
    assert [jar.coordinates for jar in wanted.jars] == ["org.jenkins-ci:trilead-ssh2:build-217-jenkins-27"]
    assert wanted.npm_install_arguments == ["--ignore-scripts"]
    assert "--openssl-legacy-provider" in made.environment["NODE_OPTIONS"]
    assert len(wanted.downloads) == 3


def test_the_initial_configuration_is_the_embedded_sample() -> None:
    """A fresh clone builds the sample: the configuration names no repository."""
    path = ROOT / "shared" / "build_config.json"
    read = load(BuildConfig, path.read_bytes(), path.name)
    assert read.cloudstack.repository == ""
    assert dump(read) == path.read_bytes()
