"""Ways to cheat at promotion, by name. Importing a part registers its own."""

from tests.simulation.cheats import entries, rounds, statements
from tests.simulation.cheats.base import CHEATS, Attempt, Cheat

__all__ = ["CHEATS", "Attempt", "Cheat", "entries", "rounds", "statements"]
