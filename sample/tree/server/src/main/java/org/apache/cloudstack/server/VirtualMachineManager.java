// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.server;

import java.time.Clock;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SortedMap;
import java.util.TreeMap;

import org.apache.cloudstack.api.DeploymentPlanner;
import org.apache.cloudstack.api.Host;
import org.apache.cloudstack.api.Hypervisor;
import org.apache.cloudstack.api.Placement;
import org.apache.cloudstack.api.VirtualMachine;
import org.apache.cloudstack.framework.jobs.JobQueue;
import org.apache.cloudstack.schema.HostDao;

/**
 * Places guests on hosts, as jobs: asking is quick, the work is done by {@link #work}.
 */
public final class VirtualMachineManager {

    private final HostDao hosts;
    private final CapacityManager capacity;
    private final DeploymentPlanner planner;
    private final Map<String, Hypervisor> hypervisors;
    private final JobQueue queue;
    private final SortedMap<String, Placement> placements = new TreeMap<>();

    public VirtualMachineManager(HostDao hosts, CapacityManager capacity, DeploymentPlanner planner,
            Map<String, Hypervisor> hypervisors, Clock clock) {
        this.hosts = hosts;
        this.capacity = capacity;
        this.planner = planner;
        this.hypervisors = Map.copyOf(hypervisors);
        this.queue = new JobQueue(clock, 3, Duration.ofSeconds(5));
    }

    public void requestDeploy(VirtualMachine machine) {
        queue.submit(new JobQueue.Job("deploy " + machine.name(), 5, () -> deploy(machine)));
    }

    /** Destroying frees room, so it comes before deploying. */
    public void requestDestroy(String name) {
        queue.submit(new JobQueue.Job("destroy " + name, 1, () -> destroy(name)));
    }

    /** Runs every job that is due and returns how many there were. */
    public int work() {
        int done = 0;
        while (queue.runNext().isPresent()) {
            done++;
        }
        return done;
    }

    public Collection<Placement> placements() {
        return List.copyOf(placements.values());
    }

    public List<JobQueue.Outcome> outcomes() {
        return queue.outcomes();
    }

    private void deploy(VirtualMachine machine) {
        if (placements.containsKey(machine.name())) {
            throw new IllegalStateException("'" + machine.name() + "' exists already");
        }
        Optional<Host> chosen = planner.order(machine, hosts.list(), placements.values()).stream()
                .filter(host -> capacity.fits(machine, host))
                .findFirst();
        Host host = chosen.orElseThrow(() -> new IllegalStateException("no host has room for '" + machine.name() + "'"));
        hypervisors.get(host.name()).start(machine);
        Host updated = hosts.update(host.name(), host.used().plus(machine.size()));
        placements.put(machine.name(), new Placement(machine, updated));
    }

    private void destroy(String name) {
        Placement placement = placements.remove(name);
        if (placement != null) {
            Host host = hosts.find(placement.host().name());
            hypervisors.get(host.name()).stop(name);
            hosts.update(host.name(), host.used().minus(placement.machine().size()));
        }
    }
}
