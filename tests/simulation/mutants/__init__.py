"""Deliberate bugs of the product, by name: each leaves one rule out, and a named invariant has to notice.

For tests only. `planted` puts one into the product's place for the length of a run. Those of the ledger
itself are taken over from tests/ledger/mutants.py; where they replaced a fake there, they replace a virtual
machine's part here.
"""

# Importing a part registers its mutants; the table has them in this order.
from tests.simulation.mutants import transactions  # isort: skip
from tests.simulation.mutants import jobs, leases  # isort: skip
from tests.simulation.mutants import recovery  # isort: skip
from tests.simulation.mutants import machines  # isort: skip
from tests.simulation.mutants import mail  # isort: skip
from tests.simulation.mutants import promotions  # isort: skip
from tests.simulation.mutants.registry import MUTANTS, planted

__all__ = [
    "MUTANTS",
    "jobs",
    "leases",
    "machines",
    "mail",
    "planted",
    "promotions",
    "recovery",
    "transactions",
]
