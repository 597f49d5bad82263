// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.usage;

import static org.junit.Assert.assertEquals;

import java.time.Instant;
import java.util.Map;
import java.util.stream.Stream;

import org.apache.cloudstack.usage.UsageMeter.Usage;
import org.junit.Test;

public class UsageMeterTest {

    private final UsageMeter day = new UsageMeter(Instant.parse("2025-06-01T00:00:00Z"), Instant.parse("2025-06-02T00:00:00Z"));

    private Map<String, Usage> measure(String... lines) {
        return day.measure(Stream.of(lines).map(UsageServer::parse).toList());
    }

    @Test
    public void countsOnlyWhatLiesInThePeriod() {
        assertEquals(Map.of("alice", new Usage(2000.0, 4.0)), measure(
                "2025-05-30T12:00:00Z START web alice 1000 2GiB",
                "2025-06-01T02:00:00Z STOP  web alice 1000 2GiB",
                "2025-06-02T01:00:00Z START web alice 1000 2GiB"));
    }

    @Test
    public void countsToTheEndWhatNeverStopped() {
        assertEquals(Map.of("alice", new Usage(300.0, 3.0), "bob", new Usage(24.0, 24.0)), measure(
                "2025-06-01T00:00:00Z START db  bob   1 1GiB",
                "2025-06-01T21:00:00Z START web alice 100 1GiB"));
    }
}
