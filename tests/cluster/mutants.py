"""Bugs that are planted in the workers of the real cluster, to show that its checker can fail.

A name, what is wrong, and the invariant that has to notice. Only test code reads them: the product has no
such switch.
"""

from __future__ import annotations

MUTANTS = {
    "tells-ok": ("what was refused is told as done", "acknowledged-is-applied"),
    "cleared-early": ("the outbox is cleared before the push is known", "acknowledged-is-applied"),
    "works-on": ("a holder works on although it lost its lease", "work-never-overlaps"),
}
