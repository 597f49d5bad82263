"""Which fault comes when: first every one that is on, in a drawn order, until it has hit; then by weight.

A strike hits what it meets, and may meet nothing: no request passed while the line was cut, nobody came by
the step at which death lay in wait. So each is looked after, and struck again, for longer, until it has hit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.dice import Dice
from tests.simulation.faults import FAULTS

#: A fault is given up after so many strikes that hit nothing.
MOST = 15
#: So many seconds after its strike a fault must have hit, or is struck again.
_PATIENCE = 2.5
_SLOW = {"store-restored": 6.0, "stop": 4.5, "waiter-dies": 4.5, "artifact-full": 62.0}
#: Which part of a run may be spent until each fault was struck once, and the least time between two.
_PART, _LEAST_SECONDS = 0.6, 0.3


class Coverage:
    """Draws the next fault. `seconds` is how long the run makes trouble, `pace` how long between two."""

    def __init__(self, on: Sequence[str], seconds: float, pace: float, dice: Dice) -> None:
        left, self._todo = list(on), []
        while left:
            self._todo.append(left.pop(dice.below(len(left))))
        self._todo.sort(key=lambda name: name not in _SLOW)  # as drawn otherwise
        self._weights = [(name, FAULTS[name].weight or 3.0) for name in on]
        self._seconds, self._calm_pace = seconds, pace
        self._first_pace = min(pace, max(_LEAST_SECONDS, _PART * seconds / max(len(on), 1)))
        self._due: dict[str, float] = {}
        self._tries: Counter[str] = Counter()
        self._last = ""

    def next(self, now: float, hits: Iterable[tuple[str, str]], dice: Dice) -> str | None:
        """Returns what strikes now; None: nothing is on. `hits` are all so far, by fault and step."""
        struck = {name for name, _ in hits}
        self._todo = [name for name in self._todo if name not in struck]
        for name, due in list(self._due.items()):
            if name in struck:
                del self._due[name]
            elif due <= now:
                del self._due[name]
                if self._tries[name] < MOST:
                    self._todo.append(name)
        if self._todo:
            self._last = self._todo.pop(0)
            self._tries[self._last] += 1
            self._due[self._last] = now + _SLOW.get(self._last, _PATIENCE)
            return self._last
        self._last = ""
        return dice.weighted(self._weights) if self._weights else None

    @property
    def done(self) -> bool:
        """Says whether every fault has hit, or is given up."""
        return not self._todo and not self._due

    @property
    def again(self) -> bool:
        """Says whether what strikes now was struck before and hit nothing."""
        return self._tries[self._last] > 1

    @property
    def pace(self) -> float:
        """Returns how many seconds pass until the next strike, about."""
        return self._first_pace if self._todo else self._calm_pace

    def fit(self, seconds: float) -> float:
        """Returns for how long a fault is on that shall be on so long.

        As long as not every fault has hit, the long ones are cut short, which keep others from their victims;
        and one that hit nothing is on for longer each time.
        """
        if self.done:
            return seconds
        return min(seconds * max(self._tries[self._last], 1), max(self._seconds / 6, 1.0))


@dataclass
class Notes:
    """What is added to some files from now on: how those take it that a fault befalls."""

    begun: dict[Path, int]

    @classmethod
    def of(cls, files: Iterable[Path]) -> Notes:
        return cls({file: file.stat().st_size if file.exists() else 0 for file in files})

    def about(self, words: Mapping[str, str]) -> Counter[str]:
        """Counts the lines with one of these words, under what each word stands for."""
        found: Counter[str] = Counter()
        for file, size in self.begun.items():
            if file.exists():
                with file.open("rb") as lines:
                    lines.seek(size)
                    text = lines.read().decode(errors="replace")
                for word, stands_for in words.items():
                    if text.count(word):
                        found[stands_for] += text.count(word)
        return found
