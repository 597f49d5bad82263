// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.framework.jobs;

import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.PriorityQueue;

/**
 * Jobs in order of priority, the most urgent first, and first come first served among equals.
 *
 * <p>A job that throws is tried again after a delay that doubles, up to a number of attempts. Not safe for use by
 * several threads: whoever owns the queue drives it by calling {@link #runNext}.
 */
public final class JobQueue {

    private static final Comparator<Entry> ORDER =
            Comparator.comparingInt((Entry e) -> e.job.priority()).thenComparingLong(e -> e.sequence);

    private final Clock clock;
    private final int maxAttempts;
    private final Duration firstDelay;
    private final PriorityQueue<Entry> ready = new PriorityQueue<>(ORDER);
    private final List<Entry> waiting = new ArrayList<>();
    private final List<Outcome> outcomes = new ArrayList<>();
    private long sequence;

    public JobQueue(Clock clock, int maxAttempts, Duration firstDelay) {
        this.clock = clock;
        this.maxAttempts = maxAttempts;
        this.firstDelay = firstDelay;
    }

    public void submit(Job job) {
        ready.add(new Entry(job, sequence++));
    }

    /** Runs the next job that is due and says which; empty if none is. */
    public Optional<Job> runNext() {
        Instant now = clock.instant();
        waiting.removeIf(entry -> !entry.due.isAfter(now) && ready.add(entry));
        Entry entry = ready.poll();
        if (entry == null) {
            return Optional.empty();
        }
        entry.attempts++;
        try {
            entry.job.action().run();
            outcomes.add(new Outcome(entry.job, entry.attempts, null));
        } catch (RuntimeException e) {
            if (entry.attempts >= maxAttempts) {
                outcomes.add(new Outcome(entry.job, entry.attempts, e));
            } else {
                entry.due = now.plus(firstDelay.multipliedBy(1L << entry.attempts - 1));
                waiting.add(entry);
            }
        }
        return Optional.of(entry.job);
    }

    /** How many jobs are yet to end. */
    public int pending() {
        return ready.size() + waiting.size();
    }

    /** The jobs that have ended, in the order in which they did. */
    public List<Outcome> outcomes() {
        return List.copyOf(outcomes);
    }

    /** Something to do; priority 1 is the most urgent. */
    public record Job(String name, int priority, Runnable action) {
    }

    /** How a job ended: the failure is null if it succeeded. */
    public record Outcome(Job job, int attempts, RuntimeException failure) {

        public boolean succeeded() {
            return failure == null;
        }
    }

    private static final class Entry {
        private final Job job;
        private final long sequence;
        private int attempts;
        private Instant due = Instant.MIN;

        private Entry(Job job, long sequence) {
            this.job = job;
            this.sequence = sequence;
        }
    }
}
