#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print lines with numbers, as many as fit into that many millions of bytes: noise.py MEGABYTES.

Every line has 100 bytes and its number, and one more says how many there were: a reader can tell whether any is
missing. The environment variable SAMPLE_NOISE_MEGABYTES goes before the argument.
"""

import os
import sys

LINE = "[DEBUG] noise {:>12} " + "." * 72
LINES_AT_ONCE = 10_000


def main() -> None:
    megabytes = float(os.environ.get("SAMPLE_NOISE_MEGABYTES") or sys.argv[1])
    count = int(megabytes * 1_000_000) // 100
    for start in range(0, count, LINES_AT_ONCE):
        numbers = range(start + 1, min(start + LINES_AT_ONCE, count) + 1)
        sys.stdout.write("".join(LINE.format(n)[:99] + "\n" for n in numbers))
    print(f"[DEBUG] noise ends after {count} lines")


if __name__ == "__main__":
    main()
