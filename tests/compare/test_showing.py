"""What stays different is shown by whichever tool there is, and no tool changes a verdict."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.compare import showing
from pipeline.compare.descent import Node
from pipeline.compare.explaining import explain
from pipeline.compare.showing import MOST_BYTES, MOST_SHOWN, Showing, Wanted, pairs_of, wanted
from pipeline.compare.verdicts import judge, read_stated
from pipeline.compare.wire import Line
from pipeline.edge.clock import ManualClock
from pipeline.edge.confined import Bounds, ConfinedPrograms, Ran
from pipeline.errors import ComparisonIncomplete
from pipeline.records.comparison import ComparedArtifact, ComparedLeaf, Verdict
from tests.compare.sides import sides

CLOCK = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
ELF = Path("/bin/true")


class Tools:
    """Programs that print what they are told to; `ran` is what they were given."""

    def __init__(self, *answers: Ran, has: Sequence[str] = ("javap", "diffoscope")) -> None:
        self._answers, self._has = list(answers), has
        self.ran: list[tuple[list[str], dict[str, bytes]]] = []

    def where(self, name: str) -> str | None:
        """Says that it lies here, if there is one."""
        return f"/here/{name}" if name in self._has else None

    def run(self, program: Sequence[str], files: Mapping[str, bytes], bounds: Bounds) -> Ran:
        """Prints the next answer; the last one for ever."""
        self.ran.append((list(program), dict(files)))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    @property
    def confined(self) -> str:
        """Says so."""
        return "nowhere"


class Patient(ConfinedPrograms):
    """Real programs, on a machine that may be busy."""

    def run(self, program: Sequence[str], files: Mapping[str, bytes], bounds: Bounds) -> Ran:
        """Runs one, however long it takes."""
        return super().run(program, files, replace(bounds, seconds=300))


class Broken(Tools):
    """Programs that cannot even be run."""

    def run(self, program: Sequence[str], files: Mapping[str, bytes], bounds: Bounds) -> Ran:
        """Raises."""
        raise OSError(28, "No space left on device")


class Spoiled:
    """A line on which another answer comes than what was asked for."""

    def __init__(self, line: Line, answer: dict[str, Any]) -> None:
        self.name, self._line, self._answer = line.name, line, answer

    def begin(self, question: dict[str, Any]) -> None:
        """Asks for something else."""

    def finish(self) -> dict[str, Any]:
        """Answers."""
        return self._answer


FIVE = Wanted()
PRINTS = Ran(1, b"--- left\n+++ right\n-\tone\n+two\n", "")


def shown(
    tmp_path: Path,
    left: bytes,
    right: bytes,
    name: str,
    tools: Any,
    asked: Wanted = FIVE,
    spoil: Any = lambda line: line,
) -> tuple[ComparedArtifact, ComparedArtifact]:
    """Returns an artifact as it is explained and with its displays, for which one line may be spoiled."""
    with sides(tmp_path, left, right, name) as (one, two):
        show = Showing(tools, CLOCK, asked)
        stated = [read_stated(line.stated) for line in (one, two)]  # type: ignore[attr-defined]
        (artifact,) = judge(stated[0], stated[1], same_machine=True)  # type: ignore[arg-type]
        explained = explain(artifact, one, two, lambda text: None, note=show.note)
        (after,) = show.show([explained], one, spoil(two), lambda text: None)
        return explained, after


def zipped(**entries: bytes) -> bytes:
    """Makes a jar; `__` in a name is a dot."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, content in entries.items():
            file.writestr(zipfile.ZipInfo(name.replace("__", ".")), content)
    return data.getvalue()


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Two classes of which one has a field more, and the code another number."""
    if shutil.which("javac") is None:
        pytest.skip("javac is not installed")
    folder = tmp_path_factory.mktemp("classes")
    (folder / "A.java").write_text(
        "class A { int x() { return 1; } } class B { int y; int x() { return 2; } }"
    )
    subprocess.run(["javac", "-d", folder, folder / "A.java"], check=True, timeout=120)
    return (folder / "A.class").read_bytes(), (folder / "B.class").read_bytes()


def test_text_is_shown_by_no_tool(tmp_path: Path) -> None:
    """Lines of two texts are held against each other here; of a jar's entry as of a file."""
    tools = Tools(PRINTS)
    jars = (zipped(a__txt=b"same\none\n", b=b"x"), zipped(a__txt=b"same\ntwo\n", b=b"x"))
    _, after = shown(tmp_path, *jars, "a.jar", tools)
    (display,) = after.displays
    assert (display.path, display.tool) == (["a.jar", "a.txt"], "text")
    assert list(display.lines) == ["@ line 1", " same", "-one", "+two", " "]
    assert tools.ran == []


def test_a_class_is_shown_once_and_as_javap_prints_it(tmp_path: Path, classes: tuple[bytes, bytes]) -> None:
    """Many things of a class differ, and it is one display; each side is printed by a process of its own."""
    jars = [zipped(A__class=data) for data in classes]
    tools = Tools(Ran(0, b"class A\n  iconst_1\n", ""), Ran(0, b"class A\n  iconst_2\n", ""))
    before, after = shown(tmp_path, jars[0], jars[1], "a.jar", tools)
    assert len(before.leaves) > 3
    (display,) = after.displays
    assert (display.path, display.tool, display.confined) == (["a.jar", "A.class"], "javap", "nowhere")
    assert list(display.lines) == ["@ line 1", " class A", "-  iconst_1", "+  iconst_2", " "]
    assert [(program[0], len(files)) for program, files in tools.ran] == [("/here/javap", 1)] * 2


def test_real_tools_show_real_classes(tmp_path: Path, classes: tuple[bytes, bytes]) -> None:
    """What javap prints of two classes is there, run as confined as this machine permits."""
    if shutil.which("javap") is None:
        pytest.skip("javap is not installed")
    _, after = shown(tmp_path, *classes, "A.class", Patient())
    (display,) = after.displays
    assert display.tool == "javap", display.note
    assert {"-         0: iconst_1", "+         0: iconst_2"} <= set(display.lines)
    assert display.confined == ConfinedPrograms().confined


def test_a_real_diffoscope_shows_a_program(tmp_path: Path) -> None:
    """An ELF file is shown as diffoscope prints it."""
    if shutil.which("diffoscope") is None:
        pytest.skip("diffoscope is not installed")
    data = ELF.read_bytes()
    _, after = shown(tmp_path, data, data.replace(b"GNU", b"GNV"), "true", Patient())
    (display,) = after.displays
    assert display.tool == "diffoscope", display.note
    assert any("readelf" in line for line in display.lines)


def test_everything_else_is_diffoscopes(tmp_path: Path) -> None:
    """Of a leaf's name only a plain suffix is told to a program, whatever the name is."""
    tools = Tools(PRINTS)
    left, right = (zipped(**{"-x;$(id)\n.png": b"\0PNG" + side}) for side in (b"1", b"2"))
    _, after = shown(tmp_path, left, right, "a.zip", tools)
    (display,) = after.displays
    assert (display.tool, list(display.lines)) == (
        "diffoscope",
        ["--- left", "+++ right", "-       one", "+two"],
    )
    assert tools.ran[0][0][-2:] == ["left/leaf.png", "right/leaf.png"]
    assert tools.ran[0][1] == {"left/leaf.png": b"\0PNG1", "right/leaf.png": b"\0PNG2"}


BINARY = b"\0\1\2one", b"\0\1\2two"


@pytest.mark.parametrize(
    ("tools", "why"),
    [
        (Tools(Ran(0, b"", "")), "diffoscope sees no difference"),
        (Tools(Ran(0, b"AGREE: everything is equal\n", "")), "diffoscope sees no difference"),
        (Tools(Ran(1, b" \n", "")), "diffoscope ended with status 1"),
        (Tools(Ran(2, b"half", "Traceback\nMemoryError")), "diffoscope ended with status 2: MemoryError"),
        (Tools(Ran(None, b"", "it took longer than 20 s")), "showed nothing: it took longer than 20 s"),
        (Tools(Ran(-9, b"", "")), "diffoscope ended with status -9"),
        (Tools(Ran(153, b"y\n" * 9, "", cut=True)), "diffoscope printed more than it may"),
        (Tools(Ran(127, b"", "No such file")), "showed nothing: No such file"),
        (Tools(PRINTS, has=()), "diffoscope is not installed"),
    ],
)
def test_a_tool_that_shows_nothing_is_no_loss(tmp_path: Path, tools: Tools, why: str) -> None:
    """Whatever it does, the bytes themselves are shown, it is said why, and the rest is what it was."""
    before, after = shown(tmp_path, *BINARY, "a.bin", tools)
    assert after.model_copy(update={"displays": []}) == before
    assert (before.verdict, before.displays) == (Verdict.DIFFER, [])
    (display,) = after.displays
    assert (display.tool, display.confined) == ("bytes", None)
    assert why in (display.note or "")
    assert [line[:25] for line in display.lines] == [
        *("-00000000  00 01 02 6f 6e", "+00000000  00 01 02 74 77")
    ]


def test_a_tool_that_lies_changes_its_lines_alone(tmp_path: Path) -> None:
    """However it says that the two agree, nobody reads that but people."""
    lies = b"\x1b[2J" + b"AGREE: 1 AGREE\n" * 10_000 + b'{"verdict": "AGREE"}'
    before, after = shown(tmp_path, *BINARY, "a.bin", Tools(Ran(1, lies, "")))
    assert after.model_copy(update={"displays": []}) == before
    (display,) = after.displays
    assert (len(display.lines), display.omitted) == (200, 9801)


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([Ran(0, b"same", "")], "javap prints the same of both"),
        ([Ran(1, b"", "Error: bad class")], "javap ended with status 1: Error: bad class"),
        ([Ran(0, b"one", ""), Ran(None, b"", "it took longer than 20 s")], "it took longer"),
        ([Ran(0, b"one", "", cut=True)], "javap printed more than it may"),
    ],
)
def test_a_class_that_javap_does_not_show(
    tmp_path: Path, classes: tuple[bytes, bytes], answers: list[Ran], why: str
) -> None:
    """What javap hides, an attribute that it does not know for instance, is shown as bytes."""
    before, after = shown(tmp_path, *classes, "A.class", Tools(*answers))
    assert after.model_copy(update={"displays": []}) == before
    assert (after.displays[0].tool, why in (after.displays[0].note or "")) == ("bytes", True)


def test_a_tool_that_cannot_be_run(tmp_path: Path) -> None:
    """A full disk here is a display that could not be made."""
    before, after = shown(tmp_path, *BINARY, "a.bin", Broken(PRINTS))
    assert after.model_copy(update={"displays": []}) == before
    assert "No space left on device" in (after.displays[0].problem or "")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({}, "its answer is none"),
        ({"unreadable": "is not there"}, "is not there"),
        ({"data": 7}, "its answer is none"),
        ({"data": "§"}, "does not unpack"),
        ({"data": base64.b64encode(b"not packed").decode()}, "does not unpack"),
        ({"data": base64.b64encode(zlib.compress(bytes(MOST_BYTES + 1))).decode()}, "something else"),
        ({"data": base64.b64encode(zlib.compress(b"x" * 99)[:-5]).decode()}, "something else"),
    ],
)
def test_a_reader_that_sends_something_else(tmp_path: Path, answer: dict[str, Any], why: str) -> None:
    """Nonsense and a bomb are told where the display would be, and the verdict is what it was."""
    before, after = shown(tmp_path, *BINARY, "a.bin", Tools(PRINTS), spoil=lambda line: Spoiled(line, answer))
    assert after.model_copy(update={"displays": []}) == before
    assert why in (after.displays[0].problem or "")


class Silent:
    """A line on which an answer to the first question does not come in time."""

    def __init__(self, line: Line) -> None:
        self.name, self._line, self.asked = line.name, line, 0

    def begin(self, question: dict[str, Any]) -> None:
        """Asks."""
        self.asked += 1
        self._line.begin(question)

    def finish(self) -> dict[str, Any]:
        """Raises, and leaves the answer where it is."""
        raise ComparisonIncomplete("the builder gave no answer in time")


def test_nothing_is_shown_after_a_side_fell_silent(tmp_path: Path) -> None:
    """An answer that comes late would be taken for that to the next question: the bytes of another file."""
    left, right = (zipped(**{f"f{n}": side for n in range(3)}) for side in (b"one\n", b"two\n"))
    silent: list[Silent] = []

    def spoil(line: Line) -> Silent:
        silent.append(Silent(line))
        return silent[0]

    before, after = shown(tmp_path, left, right, "a.jar", Tools(PRINTS), spoil=spoil)
    assert after.model_copy(update={"displays": []}) == before
    assert ["no answer in time" in (each.problem or "") for each in after.displays] == [True] * 3
    assert silent[0].asked == 1


def test_a_large_leaf_is_shown_in_part(tmp_path: Path) -> None:
    """Where it differs, as bytes or as text; little of it travels."""
    left = bytes(MOST_BYTES) + b"one" + bytes(MOST_BYTES)
    tools = Tools(PRINTS)
    with sides(tmp_path, left, left.replace(b"one", b"two"), "a.bin") as lines:
        node = Node(["a.bin"], sizes=(len(left), len(left)))
        before = sum(line.counted.bytes for line in lines)
        answers, begin, most = showing.ask_for(lines, node)
        assert sum(line.counted.bytes for line in lines) - before < 20_000
    one, two = (zlib.decompress(base64.b64decode(each["data"])) for each in answers)
    assert len(one) == most
    assert (left[begin : begin + most], two) == (one, one.replace(b"one", b"two"))
    _, after = shown(tmp_path, left, left.replace(b"one", b"two"), "a.bin", tools)
    (display,) = after.displays
    assert (display.tool, tools.ran) == ("bytes", [])
    assert f"-{MOST_BYTES:08x}  6f 6e 65" in display.lines[2]


def test_only_what_nothing_explains_is_shown(tmp_path: Path) -> None:
    """Not what a normaliser proved or what follows, and no property without two files."""
    proved = ["zip-times"]
    leaves = [
        ComparedLeaf(path=["a", "proved"], what="content", normalisers=proved, cause="timestamp"),
        ComparedLeaf(path=["a", "sums"], what="content", cause="follows"),
        ComparedLeaf(path=["a", "gone"], what="name", left="gone"),
        ComparedLeaf(path=["a", "known"], what="content", cause="random"),
        ComparedLeaf(path=["a", "unknown"], what="content"),
        ComparedLeaf(path=["a"], what="time", count=7),
    ]
    below = [Node(["a", [leaf.path[-1], 0]], leaves=[leaf]) for leaf in leaves[:5] if leaf.what == "content"]
    root = Node(["a"], kind="zip", below=below, leaves=[leaves[2], leaves[5]])
    found = {pair.node.shown[-1]: pair.unexplained for pair in pairs_of(root, leaves)}
    assert found == {"known": False, "unknown": True}


def test_what_is_unknown_comes_first_and_not_too_much(tmp_path: Path) -> None:
    """So many displays are made, of what has no known cause before what has one; or of what is asked for."""
    left = zipped(a=b"2026-01-01T00:00:00Z\n", b=b"x", c=b"x", d=b"x", e__txt=b"x")
    right = zipped(a=b"2026-02-02T00:00:00Z\n", b=b"y", c=b"y", d=b"y", e__txt=b"y")

    def names(asked: Wanted) -> list[str]:
        displays = shown(tmp_path, left, right, "a.jar", Tools(PRINTS), asked)[1].displays
        return [each.path[-1] for each in displays]

    assert names(Wanted(4)) == ["b", "c", "d", "e.txt"]
    assert names(Wanted(5))[-1] == "a"
    assert names(Wanted(5, ("A.JAR", ".txt"))) == ["e.txt"]
    assert names(Wanted(0)) == names(Wanted(5, ("nowhere",))) == []


def test_time_has_an_end(tmp_path: Path) -> None:
    """Once it has passed no further display is begun; those that are left say so."""
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))

    class Slow(Tools):
        def run(self, program: Sequence[str], files: Mapping[str, bytes], bounds: Bounds) -> Ran:
            clock.advance(bounds.seconds)
            return PRINTS

    left, right = (zipped(**{f"f{n:02}": b"\0" + side for n in range(10)}) for side in (b"1", b"2"))
    with sides(tmp_path, left, right, "a.jar") as (one, two):
        show = Showing(Slow(PRINTS), clock, Wanted(MOST_SHOWN))
        stated = [read_stated(line.stated) for line in (one, two)]  # type: ignore[attr-defined]
        (artifact,) = judge(stated[0], stated[1], same_machine=True)  # type: ignore[arg-type]
        artifact = explain(artifact, one, two, lambda text: None, note=show.note)
        (after,) = show.show([artifact], one, two, lambda text: None)
    assert [each.problem is None for each in after.displays] == [True] * 6 + [False] * 4
    assert "120 s had passed" in (after.displays[-1].problem or "")


def test_what_is_asked_for_is_read() -> None:
    """Nothing, the option alone, a number, or words of a path."""
    assert [wanted(each) for each in ("", False, True, "3", "999", "0", "a b.class")] == [
        *(None, None, Wanted(), Wanted(3), Wanted(MOST_SHOWN), Wanted(0)),
        Wanted(MOST_SHOWN, ("a", "b.class")),
    ]
