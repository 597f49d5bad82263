// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.server;

import java.util.Collection;

import org.apache.cloudstack.api.Capacity;
import org.apache.cloudstack.api.Host;
import org.apache.cloudstack.api.VirtualMachine;

/**
 * Decides what fits where, with hosts counted for more than they have (overcommitment).
 */
public final class CapacityManager {

    private final double cpuFactor;
    private final double memoryFactor;

    public CapacityManager(double cpuFactor, double memoryFactor) {
        if (cpuFactor < 1 || memoryFactor < 1) {
            throw new IllegalArgumentException("overcommitment below 1 would waste hosts");
        }
        this.cpuFactor = cpuFactor;
        this.memoryFactor = memoryFactor;
    }

    public boolean fits(VirtualMachine machine, Host host) {
        return machine.volume().fitsIn(host.total().times(cpuFactor, memoryFactor).minus(host.used()));
    }

    /** The busier of processor and memory over all hosts, in whole percent of what they really have. */
    public int usedPercent(Collection<Host> hosts) {
        Capacity total = hosts.stream().map(Host::total).reduce(Capacity.NONE, Capacity::plus);
        Capacity used = hosts.stream().map(Host::used).reduce(Capacity.NONE, Capacity::plus);
        return (int) Math.max(percent(used.cpuMhz(), total.cpuMhz()), percent(used.memoryBytes(), total.memoryBytes()));
    }

    private static long percent(long part, long whole) {
        return whole == 0 ? 0 : Math.round(100.0 * part / whole);
    }
}
