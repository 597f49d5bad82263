"""Effects behind small ports; the only door outside.

What lives here: processes, clocks, randomness, locks on local disk, git and its `credentials`; the port to
the branch that holds the state (`ref_store`), over git (`git_refs`, with `git_remote`, `git_clone`, `bare`,
`receive`) and in memory (`memory_refs`), and git's object formats (`git_objects`).
What must not: any idea of why. Nothing here knows a transaction, a job or a lock.
"""
