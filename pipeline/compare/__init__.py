"""Do two builders agree? Collects digests, descends into what differs, and states a verdict.

Here: the reader that is sent over, the descent that asks it, the decision. Not here: what a build is, who
takes part, and where comparisons are kept (operations), how one is shown (console).
"""
