"""The verbs that tasks, agents and pages share. Each tells its story in a few calls to the rooms below.

What must not live here: formats, git, processes, rendering. Nothing here is concrete: a Site is handed in.
"""
