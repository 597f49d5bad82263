"""Builds one commit: source, recipe, stand-ins, runner, progress, artifacts, logs. Knows of no queue."""
