// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.usage;

import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;

import org.apache.cloudstack.api.VirtualMachine;

/**
 * Adds up what each account has used: MHz hours and GiB hours of its running guests within a period.
 */
public final class UsageMeter {

    private final Instant from;
    private final Instant to;

    public UsageMeter(Instant from, Instant to) {
        if (!from.isBefore(to)) {
            throw new IllegalArgumentException("the period ends at " + to + ", before it starts at " + from);
        }
        this.from = from;
        this.to = to;
    }

    /** The use by account. Events are in order of time; a guest that never stopped counts to the end of the period. */
    public SortedMap<String, Usage> measure(List<Event> events) {
        SortedMap<String, Usage> usage = new TreeMap<>();
        Map<String, Event> started = new HashMap<>();
        for (Event event : events) {
            Event start = started.remove(event.machine().name());
            if (start != null) {
                add(usage, start, event.time());
            }
            if (event.running()) {
                started.put(event.machine().name(), event);
            }
        }
        started.values().forEach(start -> add(usage, start, to));
        return usage;
    }

    private void add(Map<String, Usage> usage, Event start, Instant stop) {
        Instant begin = start.time().isAfter(from) ? start.time() : from;
        Instant end = stop.isBefore(to) ? stop : to;
        if (begin.isBefore(end)) {
            double hours = Duration.between(begin, end).toMillis() / 3_600_000.0;
            VirtualMachine machine = start.machine();
            double gibibytes = machine.size().memoryBytes() / (double) (1L << 30);
            usage.merge(machine.account(), new Usage(hours * machine.size().cpuMhz(), hours * gibibytes), Usage::plus);
        }
    }

    /** A guest that started running, or stopped. */
    public record Event(Instant time, VirtualMachine machine, boolean running) {
    }

    public record Usage(double mhzHours, double gibibyteHours) {

        public Usage plus(Usage other) {
            return new Usage(mhzHours + other.mhzHours, gibibyteHours + other.gibibyteHours);
        }
    }
}
