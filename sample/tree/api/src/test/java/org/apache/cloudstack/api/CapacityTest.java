// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.api;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import org.junit.Test;

public class CapacityTest {

    private static final Capacity SMALL = new Capacity(500, 512L << 20);
    private static final Capacity LARGE = new Capacity(8000, 64L << 30);

    @Test
    public void fitsOnlyIfBothDo() {
        assertTrue(SMALL.fitsIn(LARGE));
        assertFalse(new Capacity(500, 65L << 30).fitsIn(LARGE));
        assertFalse(new Capacity(8001, 1).fitsIn(LARGE));
    }

    @Test
    public void neverGoesBelowNothing() {
        assertEquals(Capacity.NONE, SMALL.minus(LARGE));
        assertEquals(LARGE, LARGE.plus(SMALL).minus(SMALL));
        assertThrows(IllegalArgumentException.class, () -> new Capacity(-1, 0));
    }

    @Test
    public void scalesEachByItsOwnFactor() {
        assertEquals(new Capacity(1000, 512L << 20), SMALL.times(2.0, 1.0));
        assertEquals("500 MHz, 512.0 MiB", SMALL.toString());
    }
}
