"""By which recipe a build is made again, and what is said when the machine has changed meanwhile."""

from __future__ import annotations

from pipeline.operations.workshop import as_recorded, changed_since
from pipeline.records.builds import Recipe, Toolchain
from pipeline.records.secrets import mask_record

NOW = Toolchain(java="17.0.9", java_home="/opt/jdk", maven="3.9", maven_home="/opt/maven")
THEN = Toolchain(java="17.0.2", java_home="/usr/jdk", maven="3.9", maven_home="/opt/maven")


def recipe(**more: object) -> Recipe:
    fields = {"source": "/s", "branch": "b", "commit": "a" * 40, "source_date_epoch": 1, "toolchain": NOW}
    return Recipe.model_validate({**fields, **more})


def test_a_build_is_made_again_as_it_was_made() -> None:
    """What the settings say today does not matter, but the tools, and where they lie, are this machine's."""
    environment = {"JAVA_HOME": "/usr/jdk", "TZ": "UTC", "A": "then"}
    then = recipe(properties={"a": "then"}, maven_opts="-Xmx1g", environment=environment, toolchain=THEN)
    now = recipe(properties={"a": "now", "b": "c"}, environment={"JAVA_HOME": "/opt/jdk", "A": "now"})
    made = as_recorded(now, then)
    assert (made.properties, made.maven_opts) == ({"a": "then"}, "-Xmx1g")
    assert made.environment == {"JAVA_HOME": "/opt/jdk", "TZ": "UTC", "A": "then"}
    assert made.toolchain == NOW
    assert as_recorded(now, None) == now


def test_a_secret_that_was_masked_is_taken_from_the_settings() -> None:
    """A manifest shows no password; the build that is made again needs it."""
    properties = {"repository": "https://ann:hunter2hunter2@example.org/"}
    now = recipe(properties=properties)
    shown = mask_record(now)
    assert shown.properties != properties
    assert as_recorded(now, shown).properties == properties


def test_tools_that_have_changed_are_named() -> None:
    """A rebuild with another JDK than the first is no repetition of it."""
    (said,) = changed_since(recipe(), recipe(toolchain=THEN))
    assert "java 17.0.2 → 17.0.9" in said
    assert "maven 3.9" not in said
    assert changed_since(recipe(), recipe()) == []
    assert changed_since(recipe(), None) == []
