// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.framework.jobs;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertTrue;

import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;

import org.apache.cloudstack.framework.jobs.JobQueue.Job;
import org.junit.Test;

public class JobQueueTest {

    private final SteppedClock clock = new SteppedClock();
    private final JobQueue queue = new JobQueue(clock, 3, Duration.ofSeconds(10));

    @Test
    public void urgentFirstThenFirstCome() {
        List<String> ran = new ArrayList<>();
        for (String name : List.of("b5", "a5", "c1")) {
            queue.submit(new Job(name, name.charAt(1) - '0', () -> ran.add(name)));
        }
        while (queue.runNext().isPresent()) {
            assertTrue(ran.size() <= 3);
        }
        assertEquals(List.of("c1", "b5", "a5"), ran);
        assertEquals(0, queue.pending());
    }

    @Test
    public void triesAgainAfterADelayThatDoubles() {
        queue.submit(new Job("broken", 1, () -> {
            throw new IllegalStateException("no route to host");
        }));
        for (int delay : new int[] {10, 20}) {
            assertTrue(queue.runNext().isPresent());
            clock.step(Duration.ofSeconds(delay - 1));
            assertTrue("not due yet", queue.runNext().isEmpty());
            clock.step(Duration.ofSeconds(1));
        }
        assertTrue(queue.runNext().isPresent());
        assertEquals(3, queue.outcomes().get(0).attempts());
        assertFalse(queue.outcomes().get(0).succeeded());
        assertEquals(0, queue.pending());
    }

    private static final class SteppedClock extends Clock {
        private Instant now = Instant.EPOCH;

        private void step(Duration duration) {
            now = now.plus(duration);
        }

        @Override
        public Instant instant() {
            return now;
        }

        @Override
        public ZoneId getZone() {
            return ZoneOffset.UTC;
        }

        @Override
        public Clock withZone(ZoneId zone) {
            return this;
        }
    }
}
