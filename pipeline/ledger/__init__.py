"""Reads and transacts on the branch that holds the state. Knows nothing of jobs, locks or messages.

What lives here: the outbox (`store`), the transaction (`ledger`), the chain of records (`chain`), git's
object formats (`objects`), the thin port to a remote (`ports`) and its in-memory form (`memory`).
What must not: decisions. They are handed in as one pure function.
"""
