"""Zip files made byte by byte, so that each record can lie."""

from __future__ import annotations

import struct
import tempfile
import zlib
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from pipeline.compare.reader.limits import Limits
from pipeline.compare.reader.regions import Region, Spool

NOON = struct.pack("<2H", 12 << 11, (2024 - 1980) << 9 | 2 << 5 | 29)


@dataclass(frozen=True)
class Member:
    """One entry. What is None is what an honest writer says; `local_*` is said by the local header alone."""

    name: bytes
    data: bytes = b""
    method: int = 0
    flags: int = 0
    time: bytes = NOON
    extra: bytes = b""
    local_extra: bytes | None = None
    comment: bytes = b""
    made: int = 0x0314
    needed: int = 20
    internal: int = 0
    external: int = 0o100644 << 16
    level: int = 6
    crc: int | None = None
    size: int | None = None
    packed: int | None = None
    local_name: bytes | None = None
    local_flags: int | None = None
    local_method: int | None = None
    local_crc: int | None = None
    local_size: int | None = None
    local_packed: int | None = None
    local_time: bytes | None = None
    descriptor: bytes | None = None
    #: Not in the directory.
    hidden: bool = False
    #: Bytes in front of it that belong to no entry.
    gap: bytes = b""

    def raw(self) -> bytes:
        if self.method == 8:
            packer = zlib.compressobj(self.level, zlib.DEFLATED, -15)
            return packer.compress(self.data) + packer.flush()
        return self.data

    def sizes(self) -> tuple[int, int, int]:
        """crc, packed size and size, as the directory says them."""
        crc = zlib.crc32(self.data) if self.crc is None else self.crc
        packed = len(self.raw()) if self.packed is None else self.packed
        return crc, packed, len(self.data) if self.size is None else self.size

    def local(self) -> bytes:
        streamed = self.flags & 8
        name = self.name if self.local_name is None else self.local_name
        extra = self.extra if self.local_extra is None else self.local_extra
        said = (self.local_crc, self.local_packed, self.local_size)
        sizes = [
            (0 if streamed else honest) if own is None else own
            for own, honest in zip(said, self.sizes(), strict=True)
        ]
        head = struct.pack(
            "<4s3H4s3L2H",
            b"PK\3\4",
            self.needed,
            self.flags if self.local_flags is None else self.local_flags,
            self.method if self.local_method is None else self.local_method,
            self.time if self.local_time is None else self.local_time,
            *sizes,
            len(name),
            len(extra),
        )
        descriptor = struct.pack("<4s3L", b"PK\7\x08", *self.sizes()) if streamed else b""
        return head + name + extra + self.raw() + (descriptor if self.descriptor is None else self.descriptor)

    def central(self, offset: int) -> bytes:
        head = struct.pack(
            "<4s4H4s3L5H2L",
            b"PK\1\2",
            self.made,
            self.needed,
            self.flags,
            self.method,
            self.time,
            *self.sizes(),
            len(self.name),
            len(self.extra),
            len(self.comment),
            0,
            self.internal,
            self.external,
            offset,
        )
        return head + self.name + self.extra + self.comment


@dataclass(frozen=True)
class Archive:
    """A zip file. `count` lies about the entries; `order` is the directory's, by place in the file."""

    members: tuple[Member, ...]
    prefix: bytes = b""
    #: Offsets count from the first byte behind the prefix.
    shifted: bool = False
    before_directory: bytes = b""
    after_directory: bytes = b""
    comment: bytes = b""
    trailing: bytes = b""
    count: int | None = None
    zip64: bool = False
    order: tuple[int, ...] | None = field(default=None)

    def build(self) -> bytes:
        body, offsets = self.prefix, []
        for member in self.members:
            body += member.gap
            offsets.append(len(body) - (len(self.prefix) if self.shifted else 0))
            body += member.local()
        body += self.before_directory
        shown = [i for i in self.order or range(len(self.members)) if not self.members[i].hidden]
        directory = b"".join(self.members[i].central(offsets[i]) for i in shown)
        start = len(body) - (len(self.prefix) if self.shifted else 0)
        count = len(shown) if self.count is None else self.count
        body += directory + self.after_directory
        if self.zip64:
            at = len(body)
            body += struct.pack(
                "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), start
            )
            body += struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
            end = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        else:
            end = (count, count, len(directory), start)
        body += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *end, len(self.comment))
        return body + self.comment + self.trailing


def changed(archive: Archive, place: int, **values: object) -> Archive:
    """The archive with some fields of one member changed."""
    members = list(archive.members)
    members[place] = replace(members[place], **values)  # type: ignore[arg-type]
    return replace(archive, members=tuple(members))


class Files:
    """Bytes as a reader gets them: in a file, one behind the other. It is gone when this is closed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._file = self._stack.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
        self._end = 0
        self.spool = self.new_spool()

    def new_spool(self) -> Spool:
        spool = Spool(Limits())
        self._stack.callback(spool._file.close)
        return spool

    def region(self, data: bytes) -> Region:
        begin, self._end = self._end, self._end + len(data)
        self._file.write(data)
        return Region(self._file.fileno(), begin, len(data))

    def close(self) -> None:
        self._stack.close()
