"""The embedded sample: a small source tree shaped like CloudStack, and the git history made of it.

What lives here: where the sample's files are, which of them belong to it, and the stream from which
`git fast-import` makes its branches. What must not: running git; the caller feeds it the stream.

The sample's folder holds `tree/`, the source tree of the branch `ExternalNew`, and in `branches/` one folder
for each further branch: files that replace, or are added to, those of the tree.

Guarantee: the same files give the same commit ids on every machine. Names, dates and messages are fixed, and
nothing is taken from a file but its path and its bytes. A file is executable when it begins with `#!`: the
permissions on disk do not survive every way of installing (`test_commit_ids_depend_on_paths_and_bytes_only`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

from pipeline.errors import SourceError

#: The branch that `sample/tree` becomes, named as CloudStack's own that the pipeline builds.
MAIN_BRANCH: Final = "ExternalNew"

#: 2025-06-01 00:00 UTC, in seconds: the same as in the sample's debian/changelog.
_MAIN_TIME_SECONDS: Final = 1_748_736_000
_BRANCH_TIME_SECONDS: Final = _MAIN_TIME_SECONDS + 3600
_AUTHOR: Final = "Sample Author <sample@example.invalid>"
_MAIN_MARK: Final = 1

#: The name of a repository that was made of the sample, wherever it lies.
_REPOSITORY: Final = re.compile(r"sample-[0-9a-f]{12}\.git")

#: What builds, Python and editors leave behind, by name.
_IGNORED_NAMES: Final = (
    "target",
    "__pycache__",
    "*.pyc",
    "*~",
    ".*.sw?",
    ".#*",
    "#*#",
    ".DS_Store",
    ".idea",
    ".vscode",
)
#: What debhelper leaves behind in a folder `debian`, beside folders.
_IGNORED_IN_DEBIAN: Final = (
    "files",
    "debhelper-build-stamp",
    "*.debhelper",
    "*.debhelper.log",
    "*.substvars",
)


def sample_root() -> Path:
    """Returns the folder of the sample: in the checkout, or inside the package once it is installed.

    Raises `SourceError` if there is neither.
    """
    package = Path(__file__).resolve().parents[1]
    candidates = (package.parent / "sample", package / "_sample")
    for candidate in candidates:
        if (candidate / "tree" / "pom.xml").is_file():
            return candidate
    raise SourceError(
        f"The embedded sample is missing: expected it in `{candidates[0]}` or `{candidates[1]}`.",
        remedy="Install the package again, or configure a source repository.",
    )


def branches(root: Path) -> list[str]:
    """Returns the names of the sample's branches: `ExternalNew`, then the others in order."""
    overlays = root / "branches"
    if not overlays.is_dir():
        return [MAIN_BRANCH]
    return [
        MAIN_BRANCH,
        *sorted(entry.name for entry in overlays.iterdir() if entry.is_dir() and _belongs(entry)),
    ]


def fast_import_stream(root: Path) -> Iterator[bytes]:
    """Yields a `git fast-import` stream that makes every branch: one commit, or one on top of `ExternalNew`.

    Meant for an empty repository. Where the branches exist already, importing the same sample again changes
    nothing, and importing another needs `--force`, as the commits do not follow each other. git refuses a
    stream that was cut short, since the whole one ends with `done`.

    Raises `SourceError` for what a commit that is the same everywhere cannot hold.
    """
    main, *others = branches(root)
    yield b"feature done\n"
    yield from _commit(
        main,
        root / "tree",
        f"mark :{_MAIN_MARK}\n",
        "",
        _MAIN_TIME_SECONDS,
        "A small source tree with the shape of Apache CloudStack\n",
    )
    for branch in others:
        yield from _commit(
            branch,
            root / "branches" / branch,
            "",
            f"from :{_MAIN_MARK}\n",
            _BRANCH_TIME_SECONDS,
            f"What the branch {branch} is there to show\n",
        )
    yield b"done\n"


def sample_digest(root: Path) -> str:
    """Returns the SHA-256, in hex, of all that the sample's branches are made of.

    A repository made from the sample is current as long as this is the digest that was noted when it was
    made. What does not belong to the sample, such as a `target` folder, has no part in it.
    """
    digest = hashlib.sha256()
    for chunk in fast_import_stream(root):
        digest.update(chunk)
    return digest.hexdigest()


def repository_name(root: Path) -> str:
    """Returns what a repository that is made of the sample as it is now is called."""
    return f"sample-{sample_digest(root)[:12]}.git"


def is_repository(address: str) -> bool:
    """Says whether an address names a repository that was made of the sample, on whatever machine."""
    return _REPOSITORY.fullmatch(PurePosixPath(address).name) is not None


def _commit(
    branch: str, folder: Path, mark: str, parent: str, time_seconds: int, message: str
) -> Iterator[bytes]:
    """Yields one commit that puts every file of a folder onto a branch."""
    person = f"{_AUTHOR} {time_seconds} +0000"
    yield f"commit refs/heads/{branch}\n{mark}author {person}\ncommitter {person}\n".encode()
    yield from _data(message.encode())
    yield parent.encode()
    for path in _files(folder):
        content = (folder / path).read_bytes()
        mode = "100755" if content.startswith(b"#!") else "100644"
        yield f"M {mode} inline {path}\n".encode()
        yield from _data(content)


def _data(content: bytes) -> Iterator[bytes]:
    yield f"data {len(content)}\n".encode()
    yield content
    yield b"\n"


def _files(folder: Path) -> list[str]:
    """Returns the paths, relative to the folder and sorted, of the files that belong to the sample."""
    found: list[str] = []
    pending = [folder]
    while pending:
        for entry in pending.pop().iterdir():
            if not _belongs(entry):
                continue
            path = entry.relative_to(folder).as_posix()
            if entry.is_symlink() or not (path.isascii() and path.isprintable() and '"' not in path):
                raise SourceError(
                    f"The embedded sample cannot hold `{entry}`: a link, or not a plain ASCII name.",
                    remedy="Remove it, or make it a plain file with a plain name.",
                )
            if entry.is_dir():
                pending.append(entry)
            else:
                found.append(path)
    return sorted(found)


def _belongs(entry: Path) -> bool:
    """Says whether an entry is part of the sample, not something that was left beside it."""
    ignored = any(fnmatchcase(entry.name, pattern) for pattern in _IGNORED_NAMES)
    if entry.parent.name == "debian":
        ignored |= entry.is_dir() and entry.name != "source"
        ignored |= any(fnmatchcase(entry.name, pattern) for pattern in _IGNORED_IN_DEBIAN)
    return not ignored
