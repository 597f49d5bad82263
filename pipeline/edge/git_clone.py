"""The clone beside the outbox: git's objects read and written in process, as loose files.

It is a cache; nothing in it has to survive.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path
from threading import get_ident

from pipeline.edge.bare import make_bare
from pipeline.edge.git_objects import EMPTY_TREE, LARGEST_OBJECT_BYTES, Object, too_large
from pipeline.edge.git_remote import GitRemote
from pipeline.edge.identity import boot_id
from pipeline.edge.process import Finished
from pipeline.errors import LedgerNoSpace, StoreError
from pipeline.records import paths

_FETCH = ("--no-tags", "--no-write-fetch-head", "--no-auto-maintenance")
#: Git writes what is larger to disk as it comes, and does not keep it in memory.
_STREAMED = ("-c", "core.bigFileThreshold=4m")
_HEAD_BYTES = 4096
_READ_FIRST = (paths.LEDGER, paths.JOBS, paths.LOCKS, paths.MESSAGES, paths.MAILBOX, paths.REGISTRY)


class GitClone:
    """What is known locally of one branch of a remote: a bare repository, made on first use."""

    def __init__(self, folder: Path, remote: GitRemote, ref: str) -> None:
        self.folder = folder
        self.written: list[Object] = []
        self._remote = remote
        self._ref = ref
        self._cache: dict[str, Object] = {EMPTY_TREE.oid: EMPTY_TREE}
        self._large: dict[str, int] = {}  # what was too large to be read
        self._ready = False

    # ------------------------------------------------------------ objects

    def read(self, oid: str, limit: int = LARGEST_OBJECT_BYTES) -> Object | None:
        """Returns an object, or None. Raises LedgerTooLarge for one of more than `limit` bytes, unread."""
        found = self._cache.get(oid) or self._loose(oid, limit)
        if found is None and self._large.get(oid, 0) <= limit:
            # What a commit is looked at for is asked for with it: two processes instead of twelve.
            beside = ["^{tree}", ":coordination", *(f":{path}" for path in _READ_FIRST)]
            self.read_packed([oid, *(oid + each for each in beside)], limit)
            found = self._cache.get(oid)
        size = self._large.get(oid, 0) if found is None else len(found.data)
        if size > limit:
            raise too_large(oid, size, limit)
        if found is not None:
            self._keep(found)
        return found

    def has(self, oid: str) -> bool:
        """Says whether an object is here, without a git process: in memory or as a loose file."""
        return oid in self._cache or self._loose(oid, LARGEST_OBJECT_BYTES) is not None

    def read_packed(self, oids: Collection[str], limit: int = LARGEST_OBJECT_BYTES) -> None:
        """Reads objects that are not here as loose files, but none of more than `limit` bytes.

        Two git processes for all of them: the first tells the sizes.
        """
        self.ensure()
        names = "".join(f"{oid}\n" for oid in oids if oid not in self._cache).encode()
        wanted = []
        for line in self.git(["cat-file", "--batch-check"], input=names).text.splitlines():
            words = line.split(" ")
            if len(words) == 3 and words[1] in ("blob", "tree", "commit"):
                if int(words[2]) <= limit:
                    wanted.append(f"{words[0]}\n")
                else:
                    self._large[words[0]] = int(words[2])
        if not wanted:
            return
        out = self.git(["cat-file", "--batch"], input="".join(wanted).encode()).stdout
        at = 0
        while at < len(out):
            end = out.index(b"\n", at)
            words = out[at:end].decode().split(" ")
            at = end + 1
            if len(words) == 3 and words[1] in ("blob", "tree", "commit"):
                size = int(words[2])
                self._keep(Object(words[0], words[1], out[at : at + size]))
                at += size + 1

    def write(self, objects: Iterable[Object]) -> None:
        """Makes objects known. Not durable. Afterwards they are what was `written` last."""
        self.ensure()
        self.written = list(objects)
        for item in self.written:
            self._keep(item)
            data = zlib.compress(b"%s %d\0" % (item.kind.encode(), len(item.data)) + item.data, 1)
            self._replace(f"objects/{item.oid[:2]}/{item.oid[2:]}", data)

    def _replace(self, name: str, data: bytes) -> None:
        """Writes a file of the clone under another name and renames it. Not durable."""
        place, temporary = f"{self.folder}/{name}", f"{self.folder}/tmp_{os.getpid()}.{get_ident()}"
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                while data:
                    data = data[os.write(handle, data) :]
            finally:
                os.close(handle)
            try:
                os.replace(temporary, place)  # noqa: PTH105 (a third of the time of Path.replace)
            except FileNotFoundError:
                if not (self.folder / "HEAD").exists():
                    raise  # removed meanwhile: a folder of this one object would be in the way of a new clone
                Path(place).parent.mkdir(parents=True, exist_ok=True)
                Path(temporary).replace(place)
        except OSError as exc:
            raise self._unwritable(str(exc.strerror)) from exc

    def _loose(self, oid: str, limit: int) -> Object | None:
        """Returns an object that is a whole loose file; not what its head says is larger than `limit`."""
        try:
            with self._place(oid).open("rb") as file:
                stream = zlib.decompressobj()
                start = stream.decompress(file.read(_HEAD_BYTES), _HEAD_BYTES)
                head, _, data = start.partition(b"\0")
                kind, _, size = head.decode().partition(" ")
                if int(size) > limit:
                    self._large[oid] = int(size)
                    return None
                data += stream.decompress(stream.unconsumed_tail + file.read())
        except (OSError, zlib.error, ValueError):
            return None
        return Object(oid, kind, data) if len(data) == int(size) and stream.eof else None

    def _keep(self, found: Object) -> None:
        if len(self._cache) > 20_000:
            self._cache = {EMPTY_TREE.oid: EMPTY_TREE}
        self._cache[found.oid] = found

    def _place(self, oid: str) -> Path:
        return self.folder / "objects" / oid[:2] / oid[2:]

    # ------------------------------------------------------------ as a repository

    def git(self, words: list[str], *, input: bytes = b"", check: bool = True) -> Finished:
        """Runs a git command here."""
        return self._remote.git(self.folder, words, input=input, check=check)

    def fetch(self, refs: Iterable[str], *options: str) -> None:
        """Brings refs of the remote. Raises LedgerError by git's words, StoreError for a full disk here."""
        words = [*_STREAMED, "fetch", "--quiet", *options, *_FETCH, self._remote.address, *refs]
        try:
            self._remote.ask(self.folder, words)
        except LedgerNoSpace as exc:
            if "remote: " in exc.message:
                raise
            raise self._unwritable("No space left on device") from exc  # a fetch writes here, not there

    def _unwritable(self, why: str) -> StoreError:
        return StoreError(
            f"The clone {self.folder} cannot be written: {why}.",
            remedy="Free space there, and give this user write access; nothing was lost.",
        )

    def ensure(self) -> None:
        """Makes the clone on first use; after a reboot, which may have been a power loss, mends it first."""
        here = (self.folder / "HEAD").exists()  # asked each time: who lives long may outlive the clone
        if self._ready and here:
            return
        if not here:
            self._clear_remnant()
            make_bare(self.folder)
            self._cache = {EMPTY_TREE.oid: EMPTY_TREE}  # a push needs on disk what was known
        self._ready = True
        boot = self.folder / "boot"
        if not boot.exists() or boot.read_bytes() != boot_id().encode():
            self.check_objects()
            self._replace("boot", boot_id().encode())

    def _clear_remnant(self) -> None:
        """Removes what is left of a clone that somebody removed while another process wrote into it."""
        aside = self.folder.with_name(f"{self.folder.name}.{os.getpid()}.removed")
        with contextlib.suppress(FileNotFoundError):
            self.folder.rename(aside)
            if (aside / "HEAD").exists():  # a whole one, which another process has put here since
                with contextlib.suppress(OSError):
                    aside.rename(self.folder)
        shutil.rmtree(aside, ignore_errors=True)

    def note(self, tip: str) -> None:
        """Keeps a ref on the tip, so that fetches know what is here and nothing of it is pruned."""
        self._replace(self._ref, f"{tip}\n".encode())

    def noted(self) -> str | None:
        """Returns the last tip that was noted, if its commit is here."""
        try:
            tip = (self.folder / self._ref).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
        return tip if re.fullmatch("[0-9a-f]{40}", tip) and self.read(tip) is not None else None

    def cut(self) -> set[str]:
        """Returns the commits below which this clone has no history."""
        place = self.folder / "shallow"
        return set(place.read_text(encoding="ascii").split()) if place.exists() else set()

    def check_objects(self) -> int:
        """Mends what a power loss left of the clone, and returns how many files were broken.

        The clone is a cache: a loose object that is not what its name says goes, and if the ref, which tells
        the next fetch what is here already, has not all below it any more, everything is fetched again.
        """
        broken = 0
        for place in (self.folder / "objects").glob("[0-9a-f][0-9a-f]/*"):
            try:
                found = _digest(place)
            except (OSError, zlib.error):
                found = ""
            if found != place.parent.name + place.name:
                place.unlink(missing_ok=True)
                broken += 1
        noted = self.folder / self._ref
        if noted.exists():
            known = noted.read_bytes().strip().decode(errors="replace")
            words = ["rev-list", "--objects", "--quiet", known]
            if not re.fullmatch("[0-9a-f]{40}", known) or self.git(words, check=False).returncode != 0:
                noted.unlink()
                broken += 1
                self.fetch([self._ref], "--refetch")
        return broken


def _digest(place: Path) -> str:
    """Returns the id of a loose file's content, however large that is. Raises OSError, zlib.error."""
    digest, stream = hashlib.sha1(), zlib.decompressobj()
    with place.open("rb") as file:
        while block := file.read(1 << 20):
            while block:
                digest.update(stream.decompress(block, 1 << 20))
                block = stream.unconsumed_tail
    digest.update(stream.flush())
    return digest.hexdigest() if stream.eof else ""
