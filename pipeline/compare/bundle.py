"""The reader as one program text, to be run by any Python 3.8 or later that knows nothing of this product."""

from __future__ import annotations

import base64
import json
import zlib
from importlib import resources
from typing import Final

_PACKAGE: Final = "pipeline.compare.reader"

#: What the far interpreter is started with, in a folder where nobody can plant a module. On its standard
#: input comes a program's length in eight digits, then the program, then its questions.
STARTER: Final = "import sys;f=sys.stdin.buffer;exec(compile(f.read(int(f.read(8))),'reader','exec'))"

#: The options with which an interpreter imports nothing but what it came with, and the starter.
READER: Final = ("-I", "-S", "-B", "-c", STARTER)

_LOADER: Final = """
import sys
if sys.version_info < (3, 8):
    told = b'{"protocol":0,"python":"%d.%d"}' % sys.version_info[:2]
    sys.stdout.buffer.write(len(told).to_bytes(4, "big") + told)
    sys.exit(1)
import base64, importlib.abc, importlib.machinery, json, zlib
sources = json.loads(zlib.decompress(base64.b85decode(PACKED)))
class Packed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name in sources:
            package = any(each.startswith(name + ".") for each in sources)
            return importlib.machinery.ModuleSpec(name, self, is_package=package)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(sources[module.__name__], module.__name__, "exec"), module.__dict__)
sys.meta_path.insert(0, Packed())
from pipeline.compare.reader.__main__ import serve
from pipeline.compare.reader.session import Session
serve(sys.stdin.buffer, sys.stdout.buffer, Session())
"""


def program() -> bytes:
    """Returns what is sent to a far interpreter that was started with `STARTER`."""
    sources = {"pipeline": "", "pipeline.compare": ""}
    for file in sorted(resources.files(_PACKAGE).iterdir(), key=lambda each: each.name):
        if file.name.endswith(".py"):
            stem = file.name.removesuffix(".py")
            name = _PACKAGE if stem == "__init__" else f"{_PACKAGE}.{stem}"
            sources[name] = file.read_text(encoding="utf-8")
    packed = zlib.compress(json.dumps(sources, sort_keys=True).encode(), 9)
    text = f"PACKED = {base64.b85encode(packed).decode()!r}".encode() + _LOADER.encode()
    return b"%08d" % len(text) + text
