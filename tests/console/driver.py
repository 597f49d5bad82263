"""Runs one command line in this process, as `pipeline` would, and keeps what it printed and how it ended."""

from __future__ import annotations

import gc
import json
import warnings
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.console.program import program


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What standard output holds: exactly one JSON value."""
        return json.loads(self.out)


class Run:
    """Runs command lines; none of them may ever end with a traceback."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> Ended:
        self._capsys.readouterr()
        code = 0
        with warnings.catch_warnings():
            # A command's outbox is closed by the end of its process, which does not come here.
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                program().run(["pipeline", *words])
            except SystemExit as exc:
                code = int(exc.code or 0)
            gc.collect()
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        assert "defect" not in err
        assert "pydantic" not in err, "a library's words are no message for a person"
        return Ended(code, out, err)
