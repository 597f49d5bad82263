// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.agent;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.stream.Collectors;

import org.apache.cloudstack.api.Capacity;
import org.apache.cloudstack.api.Hypervisor;
import org.apache.cloudstack.api.VirtualMachine;
import org.apache.cloudstack.simulator.SimulatedHypervisor;
import org.apache.cloudstack.utils.ByteSize;

/**
 * Takes commands line by line and answers each with one line that begins with "OK" or "ERROR".
 *
 * <p>The commands are {@code START name account mhz memory}, {@code STOP name} and {@code LIST}.
 */
public final class AgentShell {

    private final Hypervisor hypervisor;

    public AgentShell(Hypervisor hypervisor) {
        this.hypervisor = hypervisor;
    }

    public static void main(String[] args) throws IOException {
        long mhz = args.length > 0 ? Long.parseLong(args[0]) : 8000;
        long memory = ByteSize.parse(args.length > 1 ? args[1] : "16GiB");
        AgentShell shell = new AgentShell(new SimulatedHypervisor(new Capacity(mhz, memory)));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            System.out.println(shell.answer(line));
        }
    }

    /** The answer to one command. Whatever is wrong with it is told in the answer. */
    public String answer(String line) {
        String[] words = line.trim().split("\\s+");
        try {
            switch (words[0]) {
            case "START":
                expect(words, 5);
                Capacity size = new Capacity(Long.parseLong(words[3]), ByteSize.parse(words[4]));
                hypervisor.start(new VirtualMachine(words[1], words[2], size));
                return "OK " + words[1];
            case "STOP":
                expect(words, 2);
                return hypervisor.stop(words[1]) ? "OK " + words[1] : "ERROR no guest '" + words[1] + "'";
            case "LIST":
                expect(words, 1);
                return hypervisor.running().keySet().stream().collect(Collectors.joining(" ", "OK ", "")).trim();
            default:
                return "ERROR unknown command '" + words[0] + "'";
            }
        } catch (IllegalArgumentException | IllegalStateException | ArithmeticException e) {
            return "ERROR " + e.getMessage();
        }
    }

    private static void expect(String[] words, int count) {
        if (words.length != count) {
            throw new IllegalArgumentException(words[0] + " takes " + (count - 1) + " words, got " + (words.length - 1));
        }
    }
}
