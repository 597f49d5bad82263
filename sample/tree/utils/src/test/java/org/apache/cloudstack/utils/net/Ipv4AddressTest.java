// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.utils.net;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import org.junit.Test;

public class Ipv4AddressTest {

    @Test
    public void writesWhatItReads() {
        for (String text : new String[] {"0.0.0.0", "203.0.113.175", "192.168.255.1", "255.255.255.255"}) {
            assertEquals(text, Ipv4Address.parse(text).toString());
        }
    }

    @Test
    public void refusesWhatHasTwoMeanings() {
        for (String text : new String[] {"", "10.1", "1.2.3.4.5", "256.0.0.1", "010.0.0.1", "1.2.3.-4", "1..2.3", "1.2.3.4 "}) {
            assertThrows(text, IllegalArgumentException.class, () -> Ipv4Address.parse(text));
        }
    }

    @Test
    public void countsAndOrdersAcrossTheSignBit() {
        Ipv4Address low = Ipv4Address.parse("127.255.255.255");
        Ipv4Address high = Ipv4Address.parse("128.0.0.0");
        assertEquals(high, low.plus(1));
        assertTrue(low.compareTo(high) < 0);
        assertThrows(ArithmeticException.class, () -> Ipv4Address.parse("255.255.255.255").plus(1));
    }
}
