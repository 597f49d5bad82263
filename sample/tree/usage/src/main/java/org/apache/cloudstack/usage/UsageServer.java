// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.usage;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

import org.apache.cloudstack.api.Capacity;
import org.apache.cloudstack.api.VirtualMachine;
import org.apache.cloudstack.utils.ByteSize;

/**
 * Prints the use by account from a file of events, one "time START|STOP name account mhz memory" per line.
 */
public final class UsageServer {

    private UsageServer() {
    }

    public static void main(String[] args) throws IOException {
        if (args.length != 3) {
            System.err.println("usage: cloudstack-usage FROM TO EVENTS-FILE");
            System.exit(2);
        }
        List<UsageMeter.Event> events = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of(args[2]))) {
            if (!line.isBlank()) {
                events.add(parse(line));
            }
        }
        new UsageMeter(Instant.parse(args[0]), Instant.parse(args[1])).measure(events).forEach((account, usage) ->
                System.out.printf(Locale.ROOT, "%s %.1f MHz h, %.1f GiB h%n", account, usage.mhzHours(), usage.gibibyteHours()));
    }

    static UsageMeter.Event parse(String line) {
        String[] words = line.trim().split("\\s+");
        if (words.length != 6) {
            throw new IllegalArgumentException("expected six words in '" + line + "'");
        }
        Capacity size = new Capacity(Long.parseLong(words[4]), ByteSize.parse(words[5]));
        return new UsageMeter.Event(Instant.parse(words[0]), new VirtualMachine(words[2], words[3], size), words[1].equals("START"));
    }
}
