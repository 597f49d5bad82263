"""The `pipeline` command: the tasks of tasks.py, from any directory."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def load_tasks() -> ModuleType:
    """Returns the module of tasks: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "_tasks.py", package.parent / "tasks.py"):
        if place.exists():
            spec = importlib.util.spec_from_file_location("tasks", place)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise FileNotFoundError("tasks.py is not part of this installation")


def main() -> None:
    """Runs the tasks named on the command line."""
    from importlib.metadata import version

    from invoke.program import Program

    Program(
        name="pipeline", namespace=load_tasks().namespace, version=version("cloudstack-build-pipeline")
    ).run()
