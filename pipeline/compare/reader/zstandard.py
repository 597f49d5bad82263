"""zstd's decoder, from the machine's own libzstd, which dpkg brings along where packages are zstd.

The standard library has none. No program is started for it, and no more memory taken than is allowed.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator

from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.regions import BLOCK, Region

_LIBRARY = "libzstd.so.1"
_WINDOW_LOG_MAX = 100
_USED = 2


def unpack_zstd(region: Region, memory: int, ended: Callable[[int], None]) -> Iterator[bytes]:
    """Yields what the zstd frame at the beginning unpacks to, and tells how long it is.

    Nothing bounds what comes out but who takes it (the spool does). Raises Unreadable where the machine has
    no libzstd, where the frame is cut short or damaged, or where its window is larger than `memory` bytes.
    """
    library = _load()
    import ctypes

    context = library.ZSTD_createDCtx()
    if not context:
        raise Unreadable("does not unpack: no memory for a zstd decoder")
    try:
        _checked(library, library.ZSTD_DCtx_setParameter(context, _WINDOW_LOG_MAX, memory.bit_length() - 1))
        target = ctypes.create_string_buffer(BLOCK)
        three = ctypes.c_size_t * 3  # of both kinds of buffer: address, size, how much of it is used
        used = 0
        for block in region.blocks():
            source = three(ctypes.cast(ctypes.c_char_p(block), ctypes.c_void_p).value or 0, len(block), 0)
            more = True
            while more:
                out = three(ctypes.addressof(target), BLOCK, 0)
                left = library.ZSTD_decompressStream(context, ctypes.byref(out), ctypes.byref(source))
                _checked(library, left)
                if out[_USED]:
                    yield ctypes.string_at(target, out[_USED])
                if left == 0:
                    ended(used + source[_USED])
                    return
                more = source[_USED] < len(block) or out[_USED] == BLOCK
            used += len(block)
        raise Unreadable("ends before its zstd frame does")
    finally:
        library.ZSTD_freeDCtx(context)


def available() -> bool:
    """Says whether this machine has the library."""
    try:
        _load()
    except Unreadable:
        return False
    return True


def _load() -> Any:
    try:
        # Here, as not every Python has it, and nothing else is worth its time.
        import ctypes

        library = ctypes.CDLL(_LIBRARY)
    except (ImportError, OSError) as exc:
        raise Unreadable("is a zstd file, and this machine has no %s: install libzstd1" % _LIBRARY) from exc
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    for name, result, arguments in (
        ("ZSTD_createDCtx", pointer, []),
        ("ZSTD_freeDCtx", size, [pointer]),
        ("ZSTD_DCtx_setParameter", size, [pointer, ctypes.c_int, ctypes.c_int]),
        ("ZSTD_decompressStream", size, [pointer, pointer, pointer]),
        ("ZSTD_isError", ctypes.c_uint, [size]),
        ("ZSTD_getErrorName", ctypes.c_char_p, [size]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _checked(library: Any, result: int) -> None:
    if library.ZSTD_isError(result):
        raise Unreadable("does not unpack: %s" % library.ZSTD_getErrorName(result).decode())
