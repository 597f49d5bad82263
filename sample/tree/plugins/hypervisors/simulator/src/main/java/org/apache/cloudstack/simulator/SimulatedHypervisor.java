// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.simulator;

import java.util.Collections;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;

import org.apache.cloudstack.api.Capacity;
import org.apache.cloudstack.api.Hypervisor;
import org.apache.cloudstack.api.VirtualMachine;

/**
 * A hypervisor that only keeps the books.
 */
public final class SimulatedHypervisor implements Hypervisor {

    private final Capacity total;
    private final SortedMap<String, VirtualMachine> running = new TreeMap<>();

    public SimulatedHypervisor(Capacity total) {
        this.total = total;
    }

    @Override
    public void start(VirtualMachine machine) {
        if (running.containsKey(machine.name())) {
            throw new IllegalStateException("'" + machine.name() + "' runs already");
        }
        Capacity free = total.minus(used());
        if (!machine.size().fitsIn(free)) {
            throw new IllegalStateException("'" + machine.name() + "' needs " + machine.size() + ", free are " + free);
        }
        running.put(machine.name(), machine);
    }

    @Override
    public boolean stop(String name) {
        return running.remove(name) != null;
    }

    @Override
    public Map<String, VirtualMachine> running() {
        return Collections.unmodifiableSortedMap(running);
    }

    public Capacity used() {
        return running.values().stream().map(VirtualMachine::size).reduce(Capacity.NONE, Capacity::plus);
    }
}
