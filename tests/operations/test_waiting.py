"""A command that was killed while its job waited: the job stays, and this machine tells of it."""

from __future__ import annotations

from pipeline.operations import queue, waiting
from pipeline.operations.overview import overview
from pipeline.operations.recover import recover
from tests.operations.conftest import MakeSite
from tests.operations.test_queue import order
from tests.operations.test_recover import die


def test_it_is_told_until_somebody_decides(make_site: MakeSite) -> None:
    """`status` and `recover` name the job and both ways on; once it is cancelled, the note goes."""
    one = make_site("build1")
    waiting.note(one, "job_mine")
    order(one, "job_mine")
    two = make_site("build1", "p2")
    assert (overview(two).abandoned, recover(two).abandoned) == ([], [])
    die(one)
    assert overview(two).abandoned == recover(two).abandoned == ["job_mine"]
    assert waiting.told_of("job_mine") in overview(two).notices
    assert waiting.told_of("job_mine") in recover(two).lines()
    assert overview(make_site("build2")).abandoned == []
    queue.cancel(two, "job_mine")
    assert overview(two).abandoned == recover(two).abandoned == []
    assert list((two.settings.work / "waiting").iterdir()) == []


def test_a_command_that_ends_takes_its_note_along(make_site: MakeSite) -> None:
    """A job that stays after `--wait` is nobody's surprise: its command has said so."""
    one = make_site("build1")
    waiting.note(one, "job_mine")
    order(one, "job_mine")
    waiting.forget(one, "job_mine")
    die(one)
    assert recover(make_site("build1", "p2")).abandoned == []


def test_a_strange_file_is_nobodys_note(make_site: MakeSite) -> None:
    """Garbage beside the notes, and the notes of another ledger, are left alone."""
    one = make_site("build1")
    order(one, "job_mine")
    folder = one.settings.work / "waiting"
    folder.mkdir(parents=True)
    (folder / "job_mine.json").write_bytes(b"\xff[")
    (folder / "job_other.json").write_text('{"ledger": "x", "builder": "build1", "process": "p"}')
    assert recover(one).abandoned == []
    assert len(list(folder.iterdir())) == 2


def test_a_disk_that_takes_no_note_keeps_nobody_from_waiting(make_site: MakeSite) -> None:
    """Without the note the job waits all the same; only nobody is told of it after a crash."""
    one = make_site("build1")
    one.settings.work.parent.mkdir(parents=True, exist_ok=True)
    one.settings.work.write_text("a file")
    waiting.note(one, "job_mine")
    waiting.forget(one, "job_mine")
    assert waiting.abandoned(one, one.state().view) == []
