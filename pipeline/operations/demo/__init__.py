"""`invoke cluster --demo`: two builders at work on one machine, one of them broken and healed, as it happens.

stage    the scratch folder: ledger, source, and a home for each builder
play     the scenes, and what is started, killed and waited for in them
story    PURE: what a commit or a builder's line means, in words
verdict  PURE: what the whole chain shows: who built what under which token, and whether all promises held
"""
