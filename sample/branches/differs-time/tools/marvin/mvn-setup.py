#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make Marvin's source distribution: mvn-setup.py VERSION COMMANDS-FILE FOLDER.

The package marvin.cloudstackAPI is generated from the API's list of commands. Only the standard library is
needed. With SOURCE_DATE_EPOCH set, the same input gives the same bytes.
"""

import gzip
import io
import os
import sys
import tarfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def read_commands(path: Path) -> dict[str, list[str]]:
    """Return the required parameters of each command, sorted by command."""
    commands = {}
    for line in path.read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, parameters = line.partition("=")
            commands[name.strip()] = [p.strip() for p in parameters.split(",") if p.strip()]
    return dict(sorted(commands.items()))


def command_module(name: str, required: list[str]) -> str:
    """Return the Python module of one API command."""
    return f'''# Generated from the API's list of commands.
"""The API command {name}."""


class {name}Cmd:
    """Parameters of {name}; the required ones must be set before it is sent."""

    command = "{name}"
    required = {tuple(required)!r}

    def __init__(self, **parameters):
        missing = [p for p in self.required if p not in parameters]
        if missing:
            raise TypeError("{name} lacks " + ", ".join(missing))
        self.parameters = parameters
'''


def sdist_files(version: str, commands: dict[str, list[str]]) -> dict[str, str]:
    """Return the text of every file of the source distribution by its path."""
    sources = [*HERE.glob("marvin/**/*.py"), HERE / "setup.py", HERE / "README.md"]
    files = {str(p.relative_to(HERE)): p.read_text("utf-8") for p in sources}
    files |= {"setup.py": files["setup.py"].replace("@VERSION@", version), "built.properties": time.strftime("#%a %b %d %H:%M:%S UTC %Y\n", time.gmtime())}
    imports = "".join(f"from .{name} import {name}Cmd\n" for name in commands)
    exported = "".join(f'    "{name}Cmd",\n' for name in commands)
    files["marvin/cloudstackAPI/__init__.py"] = f"{imports}\n__all__ = [\n{exported}]\n"
    for name, required in commands.items():
        files[f"marvin/cloudstackAPI/{name}.py"] = command_module(name, required)
    files["PKG-INFO"] = (
        f"Metadata-Version: 2.1\nName: Marvin\nVersion: {version}\n"
        "Summary: Marvin - Python client for the CloudStack sample\nLicense: Apache-2.0\n"
    )
    return files


def write_sdist(path: Path, files: dict[str, str], mtime: int) -> None:
    """Write a .tar.gz whose bytes depend on nothing but the arguments."""
    prefix = path.name.removesuffix(".tar.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", mtime=mtime, fileobj=raw) as zipped:
        with tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, text in sorted(files.items()):
                content = text.encode()
                entry = tarfile.TarInfo(f"{prefix}/{name}")
                entry.size, entry.mtime, entry.mode = len(content), mtime, 0o644
                tar.addfile(entry, io.BytesIO(content))


def main() -> None:
    version, commands, folder = sys.argv[1:]
    # The form that Python asks of a version that is not released yet.
    python_version = version.replace("-SNAPSHOT", ".dev0")
    mtime = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    path = Path(folder) / f"Marvin-{python_version}.tar.gz"
    write_sdist(path, sdist_files(python_version, read_commands(Path(commands))), mtime)
    print(f"Wrote {path}")


if __name__ == "__main__":
    main()
