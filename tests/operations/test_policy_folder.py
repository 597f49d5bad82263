"""The folder of what the root has signed: a statement and its signature are there together, or neither."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.operations.trust import POLICY, Signed, Trust, read_signed
from tests.contracts.signing import FakeVerifier

OLD, NEW, NEWEST = (Signed(word + b"\n", b"signed " + word) for word in (b"old", b"new", b"newest"))
#: Keeps NEW, and dies before it gives a file its name for the n-th time.
DIES = """
import os, sys
from pathlib import Path
from pipeline.operations.trust import POLICY, Signed, Trust

left = int(sys.argv[2])

def dies(event, words):
    global left
    if event == "os.rename":
        left -= 1
        if left < 0:
            os._exit(9)

sys.addaudithook(dies)
Trust(Path(sys.argv[1]), None, None).keep(POLICY, Signed(b"new\\n", b"signed new"))
"""


@pytest.mark.parametrize(("names", "found"), [(0, OLD), (1, OLD), (2, OLD), (3, NEW), (4, NEW)])
def test_who_keeps_a_statement_may_be_killed(tmp_path: Path, names: int, found: Signed) -> None:
    """After each of the four renames what is read is the old pair or the new one, and the next is kept."""
    trust = Trust(tmp_path, None, FakeVerifier())
    trust.keep(POLICY, OLD)
    done = subprocess.run([sys.executable, "-c", DIES, tmp_path, str(names)], check=False)
    assert done.returncode == (9 if names < 4 else 0)
    assert read_signed(tmp_path / POLICY) == found
    trust.keep(POLICY, NEWEST)
    assert read_signed(tmp_path / POLICY) == NEWEST
    left = {each.name for each in tmp_path.iterdir() if not each.name.startswith(".")}
    assert left == {POLICY, f"{POLICY}.sig", "seen.lock"}
