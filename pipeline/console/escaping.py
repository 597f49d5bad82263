"""Foreign text made harmless and readable: names of files, what is in them, what a builder says of itself."""

from __future__ import annotations


def visible(text: str) -> str:
    """Returns text in which every character prints: in place of any other stands what it is.

    Line ends, terminal sequences, marks that turn the writing around and bytes that are no UTF-8 become
    `\\n`, `\\x1b`, `\\u202e`, `\\xe9`. Two names that differ in such a character stay different.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python reads names
        return f"\\x{code - 0xDC00:02x}"
    if char in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[char]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
