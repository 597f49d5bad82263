"""What keeps the day, the machine and chance out of a build, from outside its source tree.

    settings of Maven, npm, Python and git          part of the recipe (`recipe.resolve`)
    a preload for Node, by NODE_OPTIONS             `Math.random` gives the same numbers in every build
    a `java` that comes first on PATH               sets of objects have one order; not in Maven's own JVM
    a `dh_md5sums` that comes first on PATH         archives are rewritten before the packages are closed

All of it follows from `Recipe.reproducible`; `digest` tells one version of it from another, in the recipe.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from pipeline.records.builds import Recipe

#: Read by Node before any script. One stream for each place that asks: what else happens in between, in an
#: order of its own each time, has no part in it. npm itself needs chance, for temporary names.
_SEEDED: Final = r"""'use strict'
const path = require('path')
const program = path.basename(process.argv[1] || '')
if (!/^(npm|npx|corepack|yarn|pnpm)\b/.test(program)) {
  const start = Number(process.env.SOURCE_DATE_EPOCH || 0) >>> 0
  const streams = new Map()
  const hash = text => {
    let value = 2166136261
    for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 16777619)
    return value >>> 0
  }
  const caller = function () {
    const { stackTraceLimit, prepareStackTrace } = Error
    const holder = {}
    Error.stackTraceLimit = 1
    Error.prepareStackTrace = undefined
    Error.captureStackTrace(holder, seeded)
    const text = String(holder.stack)
    Error.stackTraceLimit = stackTraceLimit
    Error.prepareStackTrace = prepareStackTrace
    return text.slice(text.lastIndexOf('/') + 1)
  }
  const draw = function (place) {
    const state = (streams.get(place) ?? (start ^ hash(place))) + 0x6d2b79f5 | 0
    streams.set(place, state)
    let value = Math.imul(state ^ state >>> 15, 1 | state)
    value = value + Math.imul(value ^ value >>> 7, 61 | value) ^ value
    return (value ^ value >>> 14) >>> 0
  }
  const seeded = function random () {
    const place = caller()
    return (draw(place) * 0x200000 + (draw(place) >>> 11)) / 0x20000000000000
  }
  Math.random = seeded
}
"""

#: Objects without a hash of their own get one from the machine: threads and cores decide. Here all get the
#: same, so that sets have the order in which they were filled. It is for what scripts of a build call `java`;
#: Maven is led past it by JAVA_HOME, as there it would cost time.
_JAVA: Final = """\
#!/bin/sh
exec {program} -XX:+IgnoreUnrecognizedVMOptions -XX:+UnlockExperimentalVMOptions -XX:hashCode=2 "$@"
"""

_MD5SUMS: Final = """\
#!/bin/sh
# dh_md5sums as it is, after the archives in the packages were rewritten.
{rewrite} || exit
exec {program} "$@"
"""

_REWRITE: Final = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from pipeline.builds.archive_rewriting import main; main(sys.argv[1:])"
)

#: Beside the stand-ins that come first on PATH.
SEEDED: Final = "seeded.js"


@cache
def digest() -> str:
    """Returns the SHA-256 of everything here that can change what a build makes."""
    found = hashlib.sha256((_SEEDED + _JAVA + _MD5SUMS + _REWRITE).encode())
    for name in ("archive_rewriting.py", "zip_rewriting.py"):
        found.update(Path(__file__).with_name(name).read_bytes())
    return found.hexdigest()


def prepare(recipe: Recipe, bin_dir: Path, path: str) -> list[str]:
    """Writes what a reproducible build is given into the job's folder of stand-ins; says in words what.

    `path` is the build's PATH without that folder. A recipe that is not reproducible gets nothing.
    """
    for name in (SEEDED, "java", "dh_md5sums"):
        (bin_dir / name).unlink(missing_ok=True)
    if not recipe.reproducible:
        return []
    (bin_dir / SEEDED).write_text(_SEEDED, encoding="utf-8")
    notes = ["reproducible: Math.random is seeded"]
    java = shutil.which("java", path=path)
    if java is not None and recipe.toolchain is not None and recipe.toolchain.java_home:
        _program(bin_dir / "java", _JAVA.format(program=shlex.quote(java)))
        notes.append("reproducible: programs in Java have no hashes that depend on the machine")
    program = shutil.which("dh_md5sums", path=path)
    if program is not None:
        notes.append("reproducible: archives are rewritten before packages are closed")
        root = Path(__file__).resolve().parents[2]
        words = [sys.executable, "-I", "-S", "-c", _REWRITE, str(root), str(recipe.source_date_epoch)]
        script = _MD5SUMS.format(rewrite=shlex.join(words), program=shlex.quote(program))
        _program(bin_dir / "dh_md5sums", script)
    return notes


def _program(place: Path, script: str) -> None:
    place.write_text(script, encoding="utf-8")
    place.chmod(0o755)


def settle_jars(recipe: Recipe, jars: Sequence[Path]) -> list[str]:
    """Rewrites the jars of a build without packages; says in words which."""
    if not recipe.reproducible:
        return []
    # Only a build without packages needs it here.
    from pipeline.builds.archive_rewriting import rewrite_files
    from pipeline.builds.zip_rewriting import Day

    return list(rewrite_files(jars, Day(recipe.source_date_epoch)))
