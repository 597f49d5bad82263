"""Another environment on purpose: what the second builder's builds see, and what is said if they cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.builds.commands import Surroundings, command
from pipeline.builds.variation import Variation, vary
from pipeline.builds.workspace import FIXED_ROOT, Workspace
from pipeline.edge.mounts import probe_mounts
from pipeline.edge.supervisor import Supervised
from pipeline.records.builds import Environment, Recipe

WHO = "import os, pwd, socket; print(os.getuid(), pwd.getpwuid(os.getuid()).pw_name, socket.gethostname())"
RECIPE = Recipe(
    source="/s", branch="b", commit="a" * 40, source_date_epoch=1, environment={"TZ": "UTC", "A": "b"}
)


def test_a_build_sees_another_user_and_host(tmp_path: Path) -> None:
    """Its processes have another number, name and host name; the machine keeps its own."""
    import socket

    varied = vary("build2", tmp_path)
    if varied.why is not None:
        pytest.skip(f"this machine has no namespaces for this user: {varied.why}")
    around = varied.of_surroundings(Surroundings("test.1", "/usr/bin:/bin"), Workspace(tmp_path, fixed=False))
    output = bytearray()
    with Supervised(
        ["/usr/bin/python3", "-c", WHO], cwd="/", env={}, marker="test.vary", mounts=around.mounts,
        host=around.host, user=around.user,
    ) as tree:  # fmt: skip
        ended = tree.run(output.extend)
    assert (ended.exit_status, output.decode()) == (0, "54321 build2-user build2-host\n")
    assert socket.gethostname() != "build2-host"
    assert "build2-user" not in Path("/etc/passwd").read_text()


def test_what_cannot_be_had_is_left_and_said(tmp_path: Path) -> None:
    """Without namespaces user and host stay, and nothing else is claimed; folder and zone still differ."""
    varied = vary("build2", tmp_path, lambda *words, **more: "a user namespace: Operation not permitted")
    around = Surroundings("test.1", "/usr/bin:/bin")
    assert varied.of_surroundings(around, Workspace(tmp_path, fixed=False)) == around
    stated = varied.of_environment(Environment(host="here", user="me"))
    assert stated is not None
    assert (stated.host, stated.user, stated.varied) == ("here", "me", ["folder", "home", "timezone"])
    assert varied.why == "a user namespace: Operation not permitted"
    assert list(tmp_path.iterdir()) == []


def test_what_is_varied_is_stated(tmp_path: Path) -> None:
    """The manifest says what the build saw, and that it was on purpose."""
    varied = Variation("Asia/Tokyo", "ann", "far")
    stated = varied.of_environment(Environment(host="here", user="me"))
    assert stated is not None
    assert (stated.user, stated.host) == ("ann", "far")
    assert stated.varied == ["folder", "home", "host", "timezone", "user", "user_id"]
    recipe = varied.of_recipe(RECIPE)
    assert (recipe.timezone, recipe.environment) == ("Asia/Tokyo", {"TZ": "Asia/Tokyo", "A": "b"})


def test_a_build_is_started_through_what_narrows_it(tmp_path: Path) -> None:
    """Fewer processors are the whole build's, with Maven alone and with packages."""
    room = Workspace(tmp_path, fixed=False)
    varied = Variation("UTC", None, None, processors=(1,))
    around = varied.of_surroundings(Surroundings("test.1", "/usr/bin:/bin"), room)
    assert command(RECIPE, room, around)[:4] == ["taskset", "-c", "1", "mvn"]
    (room.tree / "debian").mkdir(parents=True)
    for name in ("rules", "changelog"):
        (room.tree / "debian" / name).touch()
    words = command(RECIPE, room, around)
    assert words == ["taskset", "-c", "1", "dpkg-buildpackage", "-d", "-b", "-uc", "-us"]


def test_its_folder_is_another_one_unless_maven_could_not_take_it(tmp_path: Path) -> None:
    """Builds lie in the builder's own folder; one with a space in it is left for the fixed path."""
    varied = Variation("UTC", None, None)
    place = varied.place(tmp_path)
    assert place is not None
    assert not place.build_path("job_1", 1).startswith(FIXED_ROOT)
    assert varied.place(tmp_path / "a b") is None


def test_a_host_name_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    """The probe says why, and does not keep it."""
    why = probe_mounts(str(tmp_path), "/no/such/target", apart=("far", 54321))
    assert why is not None
    assert "No such file" in why or "permitted" in why
