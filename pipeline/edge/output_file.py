"""A file that a user named for a result: written whole or not at all, and never through a link.

Whether it can be written is said before the work begins whose result it will hold.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pipeline.errors import FileFailed

_TRIES: Final = 100


class OutputFile:
    """A place for one file. What lies there already is replaced if it is a regular file, and kept otherwise.

    Guarantees: whoever looks finds the old file or the whole new one, and no link is followed at the file's
    own name (the folder may be one). Not that the name outlives a power loss.
    """

    def __init__(self, word: str) -> None:
        """Takes a path as it was typed. Raises FileFailed where no file could be written there now."""
        self._place = Path(word).expanduser().absolute()
        self._shown = word
        with self._folder() as folder:
            self._refuse_what_lies_there(folder)
            os.unlink(self._begin(folder, b""), dir_fd=folder)

    def write(self, data: bytes) -> None:
        """Writes the file. Raises FileFailed, and leaves nothing behind then."""
        with self._folder() as folder:
            self._refuse_what_lies_there(folder)
            temporary = self._begin(folder, data)
            try:
                os.rename(temporary, self._place.name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                os.unlink(temporary, dir_fd=folder)
                raise

    @contextmanager
    def _folder(self) -> Iterator[int]:
        try:
            folder = os.open(self._place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield folder
            finally:
                os.close(folder)
        except OSError as exc:
            raise self._failed(exc.strerror or str(exc)) from exc

    def _refuse_what_lies_there(self, folder: int) -> None:
        try:
            mode = os.stat(self._place.name, dir_fd=folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            raise self._failed("that is a folder")
        if stat.S_ISLNK(mode):
            raise self._failed("that is a symbolic link, and links are not followed")
        if not stat.S_ISREG(mode):
            raise self._failed("that is no regular file")
        if not os.access(self._place.name, os.W_OK, dir_fd=folder):
            raise self._failed("that file is write-protected")

    def _begin(self, folder: int, data: bytes) -> str:
        """Writes a new file beside the place, flushed to the disk; returns its name."""
        for number in range(_TRIES):
            name = f".report-{os.getpid()}-{number}.tmp"
            try:
                handle = os.open(
                    name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder
                )
            except FileExistsError:
                continue
            try:
                with open(handle, "wb") as file:  # noqa: PTH123 (a descriptor)
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except BaseException:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
                raise
            return name
        raise self._failed("names for a new file beside it are all taken")

    def _failed(self, why: str) -> FileFailed:
        return FileFailed(
            f"`{self._shown}` cannot be written: {why}.",
            remedy="Name a file in a folder that this user may write to, or mend that.",
        )
