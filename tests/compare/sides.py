"""Two sides for tests: files in folders, each with a reader in this process, behind the same port."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.compare.explaining import explain
from pipeline.compare.reader.session import Session
from pipeline.compare.verdicts import judge, read_stated
from pipeline.compare.wire import Line
from pipeline.records.comparison import ComparedArtifact, Verdict

NOTHING: Mapping[str, str] = {}


class Near:
    """A conversation with a reader in this process."""

    def __init__(self) -> None:
        self.name = "near"
        self.travelled = 0
        self.session = Session()
        self._started = False
        self._answers = b""

    def send(self, data: bytes) -> None:
        """Takes the program, which is here already, and then questions."""
        if not self._started:
            self._started = True
            return
        self.travelled += len(data)
        answer = json.dumps(self.session.answer(json.loads(data[4:]))).encode("ascii")
        self._answers += len(answer).to_bytes(4, "big") + answer

    def receive(self, length: int, seconds: float) -> bytes:
        """Returns the next bytes of the answers."""
        data, self._answers = self._answers[:length], self._answers[length:]
        assert len(data) == length
        self.travelled += length
        return data

    def renew(self) -> None:
        """Begins anew with a reader that knows nothing."""
        self.close()
        self.session = Session()

    def close(self) -> None:
        """Closes its files."""
        self.session.spool._file.close()
        for file in self.session.files.values():
            os.close(file.descriptor)


@contextmanager
def sides(tmp_path: Path, left: bytes, right: bytes, name: str) -> Iterator[tuple[Line, Line]]:
    """Yields the lines to two sides that each hold one file of this name, and have stated it."""
    lines = []
    for side, data in (("left", left), ("right", right)):
        (tmp_path / side).mkdir(exist_ok=True)
        (tmp_path / side / name).write_bytes(data)
        line = Line(side, Near())
        line.stated = line.ask({"ask": "files", "root": str(tmp_path / side)})  # type: ignore[attr-defined]
        lines.append(line)
    try:
        yield lines[0], lines[1]
    finally:
        for line in lines:
            line.close()


def compared(
    tmp_path: Path,
    left: bytes,
    right: bytes,
    name: str,
    values: tuple[Mapping[str, str], Mapping[str, str]] = (NOTHING, NOTHING),
) -> ComparedArtifact:
    """Compares two files of this name."""
    with sides(tmp_path, left, right, name) as lines:
        stated = [read_stated(line.stated) for line in lines]  # type: ignore[attr-defined]
        assert not any(isinstance(each, str) for each in stated), stated
        (artifact,) = judge(stated[0], stated[1], same_machine=True)  # type: ignore[arg-type]
        return explain(artifact, *lines, lambda text: None, values)


def told(artifact: ComparedArtifact) -> str:
    """Returns an artifact's leaves in words, for a test that fails."""
    return "\n".join(
        f"{' > '.join(leaf.path)} {leaf.what} {leaf.left} | {leaf.right} {leaf.cause}: {leaf.evidence}"
        for leaf in artifact.leaves
    )


def differs(artifact: ComparedArtifact) -> bool:
    """Says whether an artifact differs, and nothing claims that normalisers made it equal."""
    assert artifact.problem is None, artifact.problem
    return artifact.verdict == Verdict.DIFFER and not artifact.normalisers and not artifact.normalised_sha256
