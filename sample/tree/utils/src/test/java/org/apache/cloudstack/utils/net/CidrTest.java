// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.utils.net;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.util.Optional;
import java.util.Set;

import org.junit.Test;

public class CidrTest {

    @Test
    public void knowsItsEnds() {
        Cidr block = Cidr.parse("10.1.0.0/22");
        assertEquals(1024, block.size());
        assertTrue(block.contains(Ipv4Address.parse("10.1.3.255")));
        assertFalse(block.contains(Ipv4Address.parse("10.1.4.0")));
        assertTrue(Cidr.parse("0.0.0.0/0").contains(Ipv4Address.parse("203.0.113.9")));
    }

    @Test
    public void givesTheLowestFreeAddressAndNeverTheEdges() {
        Cidr block = Cidr.parse("192.0.2.0/30");
        Ipv4Address first = Ipv4Address.parse("192.0.2.1");
        Ipv4Address second = Ipv4Address.parse("192.0.2.2");
        assertEquals(Optional.of(first), block.firstFree(Set.of()));
        assertEquals(Optional.of(second), block.firstFree(Set.of(first)));
        assertEquals(Optional.empty(), block.firstFree(Set.of(first, second)));
        assertEquals(Optional.of(Ipv4Address.parse("192.0.2.8")), Cidr.parse("192.0.2.8/32").firstFree(Set.of()));
    }

    @Test
    public void refusesHostBits() {
        assertThrows(IllegalArgumentException.class, () -> Cidr.parse("10.1.0.1/22"));
        assertThrows(IllegalArgumentException.class, () -> Cidr.parse("10.1.0.0/33"));
    }
}
