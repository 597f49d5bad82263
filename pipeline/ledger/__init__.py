"""Reads and transacts on the branch that holds the state. Knows nothing of jobs, locks or messages.

What lives here, from the inside out: the step from one tree to the next (`chain`), what the commits say
(`history`, `check`, `genesis`), the outbox (`store` over `database`), the last tip seen and rewinds
(`branch`), the transaction (`leader`), and what a process asks (`ledger`). Git, and the remote, are below
the port `edge.ref_store`.
What must not: decisions. They are handed in as one pure function.
"""
