from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.builds.workspace import (
    FIXED_ROOT,
    Place,
    Workspace,
    choose_place,
    clear,
    create,
    find,
    leftovers,
    remove,
)
from pipeline.edge.findings import Findings
from pipeline.edge.mounts import probe_mounts
from pipeline.edge.supervisor import Supervised
from pipeline.errors import CommandFailed, UsageError


def _yes(source: str, target: str) -> str | None:
    return None


def _no(source: str, target: str) -> str | None:
    return "Operation not permitted"


def test_with_a_namespace_every_builder_has_one_path(tmp_path: Path) -> None:
    """The build's path is fixed, whatever job and directory."""
    place = choose_place(tmp_path, probe=_yes)
    assert (place.fixed, place.why) == (True, None)
    assert place.build_path("j1", 1) == place.build_path("j2", 7) == "/media/build/cloudstack"


def test_without_a_namespace_the_path_is_the_jobs_and_said(tmp_path: Path) -> None:
    """The reason is kept, to be said and recorded."""
    place = choose_place(tmp_path, probe=_no)
    assert (place.fixed, place.why) == (False, "Operation not permitted")
    assert place.build_path("j1", 2) == f"{tmp_path}/jobs/j1.2/build/cloudstack"


def test_what_the_build_needs_is_not_hidden(tmp_path: Path) -> None:
    """With the cache below the fixed root there is no mount on it."""
    place = choose_place(tmp_path, [Path(FIXED_ROOT) / "data" / "cache"], probe=_yes)
    assert not place.fixed
    assert place.why is not None
    assert "/media/data/cache" in place.why


def test_a_path_with_a_space_needs_a_namespace(tmp_path: Path) -> None:
    """Maven's options cannot hold a space: refused before anything starts, unless the path is fixed."""
    assert choose_place(tmp_path / "my builds", probe=_yes).fixed
    with pytest.raises(UsageError, match="my builds"):
        choose_place(tmp_path / "my builds", probe=_no)


def test_mounts_that_were_possible_are_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this process may mount is known without another process, for this folder and no other."""
    findings = Findings(tmp_path / "findings")
    if probe_mounts(str(tmp_path), FIXED_ROOT, findings) is not None:
        pytest.skip("no mount namespaces here")
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert probe_mounts(str(tmp_path), FIXED_ROOT, findings) is None
    (tmp_path / "other").mkdir()
    with pytest.raises(CommandFailed, match="/no/such/python"):
        probe_mounts(str(tmp_path / "other"), FIXED_ROOT, findings)


def test_a_workspace_has_all_its_folders(tmp_path: Path) -> None:
    """Home, settings, repository and output are there; nothing of the operator's home is."""
    workspace, filled = create(Place(tmp_path, fixed=True), "j1", 1, tmp_path / "cache")
    assert filled.linked == 0
    assert workspace.root == tmp_path / "jobs" / "j1.1"
    assert workspace.settings.read_text() == "<settings/>\n"
    for folder in (workspace.repository, workspace.output, workspace.bin, workspace.temporary):
        assert folder.is_dir()
    assert not workspace.tree.exists()


def test_an_attempt_has_one_workspace(tmp_path: Path) -> None:
    """The directory of an attempt is never taken over by another."""
    create(Place(tmp_path, fixed=False), "j1", 1, tmp_path / "cache")
    with pytest.raises(UsageError, match=r"j1\.1"):
        create(Place(tmp_path, fixed=False), "j1", 1, tmp_path / "cache")


@pytest.mark.parametrize("job", ["../x", "a/b", "", ".hidden", "-x"])
def test_a_job_cannot_lie_elsewhere(tmp_path: Path, job: str) -> None:
    """A job's name is a name, not a path."""
    with pytest.raises(UsageError):
        create(Place(tmp_path, fixed=False), job, 1, tmp_path / "cache")


def test_paths_are_told_as_the_build_sees_them(tmp_path: Path) -> None:
    """Only what lies in the workspace moves."""
    fixed = Workspace(tmp_path / "jobs" / "j1.1", fixed=True)
    assert fixed.inside(fixed.home) == "/media/home"
    assert fixed.inside(Path("/usr/bin")) == "/usr/bin"
    plain = Workspace(tmp_path / "jobs" / "j1.1", fixed=False)
    assert plain.inside(plain.home) == str(plain.home)
    assert plain.mounts == []


def test_the_build_sees_its_workspace_at_the_fixed_path(tmp_path: Path) -> None:
    """In the namespace the tree lies at the fixed path, what is written there lands in the workspace, and the
    host sees nothing of it."""
    if probe_mounts(str(tmp_path), FIXED_ROOT) is not None:
        pytest.skip("no mount namespaces here")
    before = sorted(Path(FIXED_ROOT).iterdir())
    workspace, _ = create(choose_place(tmp_path), "j1", 1, tmp_path / "cache")
    workspace.tree.mkdir()
    output = bytearray()
    with Supervised(
        ["sh", "-c", "pwd; touch ../made.deb; ls /media"],
        cwd=workspace.inside(workspace.tree),
        env={"PATH": "/usr/bin:/bin"},
        marker="test.mounts",
        mounts=workspace.mounts,
    ) as tree:
        ended = tree.run(output.extend)
    assert ended.exit_status == 0
    assert output.decode().split() == ["/media/build/cloudstack", "bin", "build", "home", "tmp"]
    assert (workspace.output / "made.deb").exists()
    assert sorted(Path(FIXED_ROOT).iterdir()) == before


def test_facts_are_kept(tmp_path: Path) -> None:
    """Notes add up; what cannot be read is none."""
    workspace, _ = create(Place(tmp_path, fixed=False), "j1", 1, tmp_path / "cache")
    assert workspace.facts() == {}
    workspace.note(maven="success")
    workspace.note(commit="abc")
    assert workspace.facts() == {"maven": "success", "commit": "abc"}
    (workspace.root / "state.json").write_text("{")
    assert workspace.facts() == {}


def test_a_former_attempt_is_found_while_its_tree_is_there(tmp_path: Path) -> None:
    """A resumed build goes on in the directory of the attempt that failed."""
    place = Place(tmp_path, fixed=True)
    workspace, _ = create(place, "j1", 1, tmp_path / "cache")
    assert find(place, "j1", 1) is None
    workspace.tree.mkdir()
    assert find(place, "j1", 1) == workspace


def test_leftovers_are_listed_and_removed(tmp_path: Path) -> None:
    """Whatever a build left, read-only folders included, is removed; nothing else is."""
    assert leftovers(tmp_path) == []
    for number in (1, 2):
        create(Place(tmp_path, fixed=False), "j1", number, tmp_path / "cache")
    locked = tmp_path / "jobs" / "j1.1" / "build" / "cloudstack" / "node_modules"
    locked.mkdir(parents=True)
    (locked / "x").touch()
    locked.chmod(0o555)
    assert [path.name for path in leftovers(tmp_path)] == ["j1.1", "j1.2"]
    remove(tmp_path / "jobs" / "j1.1")
    remove(tmp_path / "jobs" / "never was")
    assert [path.name for path in leftovers(tmp_path)] == ["j1.2"]


def test_an_interrupted_removal_is_finished(tmp_path: Path) -> None:
    """A workspace that is half gone is no leftover that could be resumed; `clear` ends it."""
    (tmp_path / "jobs" / ".removing-j1.1" / "build").mkdir(parents=True)
    assert leftovers(tmp_path) == []
    clear(tmp_path)
    assert list((tmp_path / "jobs").iterdir()) == []
