"""Takes out of archives what only tells when, by whom and in what order they were written.

Runs inside a build, as a program of its own, before its packages are closed; and in the pipeline, on the jars
of a build without packages. So it imports nothing but the standard library and `zip_rewriting`.

An archive that this build wrote is known by an entry that is later than the commit. Other people's are left
byte for byte. In one that was written here

    zip, jar, war    every time becomes the commit's, entries are sorted (unless two have one name), a mode
                     that the writer did not know becomes 0644 or 0755, the numbers of users become 0
    tar, tgz         the same, and everything belongs to root
    gz               a later time in the header becomes the commit's

and in every jar that is not signed the day of the build is taken out of what JAXB and Maven write: the date
in `META-INF/*.episode`, and a year later than the commit's in the copyright of `META-INF/NOTICE`. Archives
inside archives likewise. What this does not understand is left as it is, and said.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from struct import error as StructError
from typing import Final

from pipeline.builds.zip_rewriting import Buffer, Day, Inner, NotUnderstoodError, rewritten_zip

_ZIPS: Final = (".jar", ".war", ".ear", ".zip", ".whl", ".egg")
_TARS: Final = (".tar.gz", ".tgz")
_ARCHIVES: Final = (*_ZIPS, ".gz", ".tgz", ".tar")
_DEEPEST: Final = 4
#: No tar is looked into that is longer: it is held in memory.
_MOST_BYTES: Final = 1 << 29
_GZIP: Final = b"\x1f\x8b\x08"
_GZIP_HEADER: Final = 10


def rewritten(name: str, data: Buffer, day: Day, depth: int = 0) -> list[Buffer] | None:
    """Returns the parts that an archive becomes, or None where it stays. `name` tells its kind.

    Raises NotUnderstoodError for an archive that is to be left as it is.
    """

    def inner(name: str, data: bytes) -> bytes | None:
        try:
            parts = rewritten(name, data, day, depth + 1) if depth < _DEEPEST else None
        except NotUnderstoodError:
            return None
        return None if parts is None else b"".join(parts)

    lower = name.lower()
    try:
        if lower.endswith(_ZIPS):
            return rewritten_zip(data, day, inner)
        if lower.endswith(".tar"):
            new = _rewritten_tar(bytes(data), day, inner)
            return None if new is None else [new]
        return _rewritten_gzip(bytes(data), day, lower.endswith(_TARS), inner)
    except (StructError, tarfile.TarError, zlib.error, OSError, ValueError, EOFError) as exc:
        raise NotUnderstoodError(f"it cannot be read: {exc}") from exc


def _rewritten_gzip(data: bytes, day: Day, holds_tar: bool, inner: Inner) -> list[Buffer] | None:
    if len(data) < _GZIP_HEADER or not data.startswith(_GZIP):
        raise NotUnderstoodError("it is no gzip")
    time = int.from_bytes(data[4:8], "little")
    header = data[:4] + min(time, day.seconds).to_bytes(4, "little") + data[8:_GZIP_HEADER]
    new = None
    if holds_tar and len(data) < _MOST_BYTES:
        new = _rewritten_tar(gzip.decompress(data), day, inner)
    if new is None:
        return None if time <= day.seconds else [header, data[_GZIP_HEADER:]]
    # Written by hand: what Python's own module writes into the header depends on its version.
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(new) + packer.flush()
    tail = zlib.crc32(new).to_bytes(4, "little") + (len(new) & 0xFFFFFFFF).to_bytes(4, "little")
    time_bytes = day.seconds.to_bytes(4, "little")
    return [_GZIP + b"\0" + time_bytes + b"\x02\xff", packed, tail]


def _rewritten_tar(data: bytes, day: Day, inner: Inner) -> bytes | None:
    """Returns what a tar becomes, in the format that it has."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as old:
        members = old.getmembers()
        if any(member.issparse() for member in members):
            raise NotUnderstoodError("it holds sparse files")
        contents = [_content(old, member) for member in members]
    late = any(member.mtime > day.seconds for member in members)
    changed = False
    for number, member in enumerate(members):
        content = contents[number]
        new = inner(member.name, content) if content and member.name.lower().endswith(_ARCHIVES) else None
        if new is not None:
            contents[number], member.size, changed = new, len(new), True
    if not (late or changed):
        return None
    both = list(zip(members, contents, strict=True))
    links = any(member.islnk() for member in members)
    if late and not links and len({member.name for member in members}) == len(members):
        both.sort(key=lambda one: one[0].name)
    form = tarfile.GNU_FORMAT if data[257:265] == b"ustar  \0" else tarfile.PAX_FORMAT
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:", format=form) as tar:
        for member, content in both:
            if late:
                _settle(member, day)
            tar.addfile(member, None if content is None else io.BytesIO(content))
    return made.getvalue()


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    file = tar.extractfile(member) if member.isreg() else None
    return None if file is None else file.read()


def _settle(member: tarfile.TarInfo, day: Day) -> None:
    member.mtime = day.seconds
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    # tarfile writes those again that it needs.
    own = ("mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "path", "linkpath", "size")
    member.pax_headers = {name: text for name, text in member.pax_headers.items() if name not in own}


# -- files ---------------------------------------------------------------------------------------------------


def rewrite_files(paths: Iterable[Path], day: Day) -> Iterator[str]:
    """Rewrites those of the files that are archives which this build wrote; yields a line for each."""
    for path in paths:
        if not path.name.lower().endswith(_ARCHIVES) or path.is_symlink() or not path.is_file():
            continue
        try:
            if _rewrite(path, day):
                yield f"{path}: rewritten"
        except NotUnderstoodError as exc:
            yield f"{path}: left as it is: {exc}"


def _rewrite(path: Path, day: Day) -> bool:
    """Puts a new file in the place of one that changes: the old one may have other names, in a cache."""
    parts = rewritten(path.name, path.read_bytes(), day)
    if parts is None:
        return False
    before = path.stat()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
        shutil.copymode(path, name)
        if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(name, before.st_uid, before.st_gid)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return True


def below(folder: Path) -> list[Path]:
    """Returns the files of a folder, at any depth, in order."""
    return sorted(Path(place, name) for place, _, names in os.walk(folder) for name in names)


def packages_of(tree: Path) -> list[Path]:
    """Returns the folders of a source tree that become packages, once debhelper has described them."""
    return sorted(control.parent for control in tree.glob("debian/*/DEBIAN") if control.is_dir())


def main(arguments: Sequence[str]) -> None:
    """Rewrites what the packages of the tree hold that is the working directory. `arguments`: the time."""
    day = Day(int(arguments[0]))
    for package in packages_of(Path()):
        for line in rewrite_files(below(package), day):
            sys.stdout.write(f"{line}\n")
