"""Frozen models of every file and request, and the names and paths they are known by. Imports errors only."""
