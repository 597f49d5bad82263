// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.simulator;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import org.apache.cloudstack.api.Capacity;
import org.apache.cloudstack.api.VirtualMachine;
import org.junit.Test;

public class SimulatedHypervisorTest {

    private final SimulatedHypervisor hypervisor = new SimulatedHypervisor(new Capacity(2000, 4L << 30));

    private static VirtualMachine machine(String name) {
        return new VirtualMachine(name, "alice", new Capacity(900, 1L << 30));
    }

    @Test
    public void givesBackWhatAStoppedGuestHeld() {
        hypervisor.start(machine("one"));
        hypervisor.start(machine("two"));
        assertThrows(IllegalStateException.class, () -> hypervisor.start(machine("three")));
        assertTrue(hypervisor.stop("one"));
        assertFalse(hypervisor.stop("one"));
        hypervisor.start(machine("three"));
        assertEquals(new Capacity(1800, 2L << 30), hypervisor.used());
        assertThrows(IllegalStateException.class, () -> hypervisor.start(machine("two")));
    }
}
