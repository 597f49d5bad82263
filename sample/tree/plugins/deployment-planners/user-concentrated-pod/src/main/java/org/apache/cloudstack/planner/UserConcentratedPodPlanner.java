// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.planner;

import java.util.Collection;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

import org.apache.cloudstack.api.DeploymentPlanner;
import org.apache.cloudstack.api.Host;
import org.apache.cloudstack.api.Placement;
import org.apache.cloudstack.api.VirtualMachine;

/**
 * Keeps the guests of an account together: pods where it already has the most come first, and within a pod the host
 * with the most free memory.
 */
public final class UserConcentratedPodPlanner implements DeploymentPlanner {

    @Override
    public List<Host> order(VirtualMachine machine, Collection<Host> hosts, Collection<Placement> running) {
        Map<String, Long> guestsByPod = running.stream()
                .filter(placement -> placement.machine().account().equals(machine.account()))
                .collect(Collectors.groupingBy(placement -> placement.host().pod(), Collectors.counting()));
        return hosts.stream()
                .sorted(Comparator.comparingLong((Host host) -> -guestsByPod.getOrDefault(host.pod(), 0L))
                        .thenComparingLong(host -> -host.free().memoryBytes())
                        .thenComparing(Host::name))
                .toList();
    }
}
