// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.utils;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;

import org.junit.Test;

public class ByteSizeTest {

    @Test
    public void readsUnits() {
        assertEquals(1024, ByteSize.parse("1024"));
        assertEquals(2L << 30, ByteSize.parse("2GiB"));
        assertEquals(512L << 20, ByteSize.parse(" 512 mib "));
        assertThrows(IllegalArgumentException.class, () -> ByteSize.parse("3 furlongs"));
        assertThrows(ArithmeticException.class, () -> ByteSize.parse("9000000 PiB"));
    }

    @Test
    public void writesTheLargestUnit() {
        assertEquals("1023 B", ByteSize.format(1023));
        assertEquals("1.5 kB", ByteSize.format(1536));
        assertEquals("8192.0 PiB", ByteSize.format(Long.MAX_VALUE));
    }
}
