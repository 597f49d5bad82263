// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.utils;

import java.util.Locale;

/**
 * Sizes in bytes, as people write them: "512 MiB", "2GiB", "1024".
 */
public final class ByteSize {

    private static final String[] UNITS = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};

    private ByteSize() {
    }

    /**
     * Reads a whole number and an optional binary unit.
     *
     * @throws IllegalArgumentException if there is no such unit
     * @throws ArithmeticException if the size does not fit a long
     */
    public static long parse(String text) {
        String trimmed = text.trim();
        int end = 0;
        while (end < trimmed.length() && Character.isDigit(trimmed.charAt(end))) {
            end++;
        }
        String unit = trimmed.substring(end).trim();
        long size = Long.parseLong(trimmed.substring(0, end));
        for (String known : UNITS) {
            if (unit.isEmpty() || unit.equalsIgnoreCase(known)) {
                return size;
            }
            size = Math.multiplyExact(size, 1024L);
        }
        throw new IllegalArgumentException("unknown unit '" + unit + "' in '" + text + "'");
    }

    /** Writes a size with one decimal, in the largest unit of which there is at least one. */
    public static String format(long bytes) {
        double size = bytes;
        int unit = 0;
        while (size >= 1024 && unit < UNITS.length - 1) {
            size /= 1024;
            unit++;
        }
        return unit == 0 ? bytes + " B" : String.format(Locale.ROOT, "%.1f %s", size, UNITS[unit]);
    }
}
