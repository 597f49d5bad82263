// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.server;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

import java.time.Clock;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

import org.apache.cloudstack.api.Capacity;
import org.apache.cloudstack.api.Host;
import org.apache.cloudstack.api.Hypervisor;
import org.apache.cloudstack.api.VirtualMachine;
import org.apache.cloudstack.schema.HostDao;
import org.junit.Before;
import org.junit.Test;

public class VirtualMachineManagerTest {

    private static final Capacity HOST = new Capacity(4000, 8L << 30);

    private final HostDao hosts = new HostDao();
    private final CapacityManager capacity = new CapacityManager(1.0, 1.0);
    private VirtualMachineManager manager;

    @Before
    public void twoHosts() {
        hosts.persist(new Host("kvm1", "pod1", HOST, Capacity.NONE));
        hosts.persist(new Host("kvm2", "pod1", HOST, Capacity.NONE));
        Clock clock = Clock.fixed(Instant.EPOCH, ZoneOffset.UTC);
        Map<String, Hypervisor> hypervisors = Map.of("kvm1", new Ledger(), "kvm2", new Ledger());
        manager = new VirtualMachineManager(hosts, capacity, (machine, all, running) -> List.copyOf(all), hypervisors, clock);
    }

    private static VirtualMachine machine(String name, long gibibytes) {
        return new VirtualMachine(name, "alice", new Capacity(1000, gibibytes << 30));
    }

    @Test
    public void goesToTheNextHostWhenTheFirstIsFull() {
        for (int i = 1; i <= 3; i++) {
            manager.requestDeploy(machine("vm" + i, 4));
        }
        assertEquals(3, manager.work());
        assertEquals(List.of("kvm1", "kvm1", "kvm2"),
                manager.placements().stream().map(placement -> placement.host().name()).toList());
        assertEquals(75, capacity.usedPercent(hosts.list()));
    }

    @Test
    public void destroyingComesFirstAndFreesRoom() {
        manager.requestDeploy(machine("large", 8));
        manager.requestDeploy(machine("other", 8));
        manager.work();
        manager.requestDeploy(machine("third", 8));
        manager.requestDestroy("large");
        manager.work();
        assertEquals(List.of("other", "third"),
                manager.placements().stream().map(placement -> placement.machine().name()).toList());
        assertTrue(manager.outcomes().stream().allMatch(outcome -> outcome.succeeded()));
    }

    /** A hypervisor that agrees to everything. */
    private static final class Ledger implements Hypervisor {
        private final Map<String, VirtualMachine> machines = new TreeMap<>();

        @Override
        public void start(VirtualMachine machine) {
            machines.put(machine.name(), machine);
        }

        @Override
        public boolean stop(String name) {
            return machines.remove(name) != null;
        }

        @Override
        public Map<String, VirtualMachine> running() {
            return machines;
        }
    }
}
