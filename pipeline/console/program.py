"""The `pipeline` command: the tasks of tasks.py, from any directory."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from invoke.exceptions import Exit, ParseError
from invoke.program import Program


class Pipeline(Program):
    """Invoke's program, but a command line that cannot be parsed ends like every other wrong argument."""

    def parse_core(self, argv: list[str] | None) -> None:
        self._parse(lambda: super(Pipeline, self).parse_core(argv))

    def parse_tasks(self) -> None:
        self._parse(super().parse_tasks)

    def _parse(self, parse: Callable[[], None]) -> None:
        from pipeline.errors import UsageError

        try:
            parse()
        except ParseError as exc:
            text = str(UsageError(str(exc), remedy=self._remedy(exc)))
            raise Exit(f"Error: {text}", code=UsageError.exit_code) from exc

    def _remedy(self, exc: ParseError) -> str:
        task = getattr(exc.context, "name", None)
        if task is None:
            return f"`{self.binary} --list` shows the tasks."
        return f"`{self.binary} --help {task}` explains it."


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


def program() -> Pipeline:
    """Returns the command, ready to run."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("cloudstack-build-pipeline")
    except PackageNotFoundError:
        installed = "of this checkout"
    return Pipeline(name="pipeline", binary="pipeline", namespace=load_tasks().namespace, version=installed)


def main() -> None:
    """Runs the tasks named on the command line."""
    program().run()
