"""Seeded draws that are the same on every machine and every version of Python.

Only `random.Random`'s own stream is used, seeded by text (hashed by SHA-512), and only arithmetic that IEEE
754 defines to the last bit: no logarithm, no `choice`, no `shuffle`, whose ways of drawing have changed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_TAIL = (10.0, 100.0, 1_000.0, 10_000.0)


class Dice:
    """One stream of draws. Streams of other names are independent, so leaving one out changes no other."""

    def __init__(self, *name: object) -> None:
        source = random.Random("/".join(map(str, name)))
        self.fraction = source.random
        self.bits = source.getrandbits

    def chance(self, probability: float) -> bool:
        return probability > 0.0 and self.fraction() < probability

    def below(self, limit: int) -> int:
        return int(self.fraction() * limit)

    def pick(self, of: Sequence[T]) -> T:
        return of[int(self.fraction() * len(of))]

    def weighted(self, weights: Sequence[tuple[T, float]]) -> T:
        """Picks one of the first by the weights that stand second."""
        left = self.fraction() * sum(weight for _, weight in weights)
        for each, weight in weights:
            left -= weight
            if left < 0:
                return each
        return weights[-1][0]

    def around(self, typical: float) -> float:
        """Returns a quarter to seven quarters of what is typical."""
        return typical * (0.25 + 1.5 * self.fraction())

    def delay(self, typical: float, tail: float) -> float:
        """Returns a time around the typical one, with probability `tail` 10 to 10,000 times as long."""
        seconds = typical * (0.25 + 1.5 * self.fraction())
        if self.fraction() < tail:
            seconds *= _TAIL[int(self.fraction() * 4)]
        return seconds
