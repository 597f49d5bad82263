// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.planner;

import static org.junit.Assert.assertEquals;

import java.util.List;

import org.apache.cloudstack.api.Capacity;
import org.apache.cloudstack.api.Host;
import org.apache.cloudstack.api.Placement;
import org.apache.cloudstack.api.VirtualMachine;
import org.junit.Test;

public class UserConcentratedPodPlannerTest {

    private static final Capacity TOTAL = new Capacity(16000, 128L << 30);
    private static final Host A = new Host("a", "pod1", TOTAL, Capacity.NONE);
    private static final Host B = new Host("b", "pod2", TOTAL, new Capacity(4000, 64L << 30));
    private static final Host C = new Host("c", "pod2", TOTAL, new Capacity(2000, 32L << 30));

    @Test
    public void followsTheAccountThenTheFreeMemory() {
        VirtualMachine running = new VirtualMachine("web", "alice", new Capacity(500, 1L << 30));
        VirtualMachine wanted = new VirtualMachine("db", "alice", new Capacity(500, 1L << 30));
        VirtualMachine stranger = new VirtualMachine("db", "bob", new Capacity(500, 1L << 30));
        List<Placement> placements = List.of(new Placement(running, B));
        UserConcentratedPodPlanner planner = new UserConcentratedPodPlanner();
        assertEquals(List.of(C, B, A), planner.order(wanted, List.of(A, B, C), placements));
        assertEquals(List.of(A, C, B), planner.order(stranger, List.of(A, B, C), placements));
    }
}
