"""Reads and transacts on the branch that holds the state. Knows nothing of jobs, locks or messages.

What lives here: the outbox (`store`), the transaction (`ledger`), the chain of records (`chain`) and its
check (`check`). Git, and the remote, are below the port `edge.ref_store`.
What must not: decisions. They are handed in as one pure function.
"""
