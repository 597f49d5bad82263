// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack;

import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.Stream;

import org.apache.cloudstack.api.ApiCommands;
import org.apache.cloudstack.api.Capacity;
import org.apache.cloudstack.api.Host;
import org.apache.cloudstack.api.VirtualMachine;
import org.apache.cloudstack.schema.HostDao;
import org.apache.cloudstack.server.CapacityManager;
import org.apache.cloudstack.server.VirtualMachineManager;
import org.apache.cloudstack.utils.ByteSize;

/**
 * Answers API calls, given as parameters by name, with JSON.
 */
final class ApiServlet {

    private final ApiCommands commands = ApiCommands.load();
    private final HostDao hosts;
    private final CapacityManager capacity;
    private final VirtualMachineManager machines;

    ApiServlet(HostDao hosts, CapacityManager capacity, VirtualMachineManager machines) {
        this.hosts = hosts;
        this.capacity = capacity;
        this.machines = machines;
    }

    /**
     * Carries out one call.
     *
     * @throws IllegalArgumentException if the command is unknown or lacks a parameter
     */
    String answer(Map<String, String> call) {
        String command = call.getOrDefault("command", "");
        List<String> missing = commands.required(command).stream().filter(name -> !call.containsKey(name)).toList();
        if (!missing.isEmpty()) {
            throw new IllegalArgumentException(command + " lacks " + String.join(", ", missing));
        }
        switch (command) {
        case "deployVirtualMachine":
            Capacity size = new Capacity(Long.parseLong(call.get("cpuMhz")), ByteSize.parse(call.get("memory")));
            machines.requestDeploy(new VirtualMachine(call.get("name"), call.get("account"), size));
            return "{\"jobs\": " + machines.work() + "}";
        case "destroyVirtualMachine":
            machines.requestDestroy(call.get("name"));
            return "{\"jobs\": " + machines.work() + "}";
        case "listCapacity":
            return "{\"usedPercent\": " + capacity.usedPercent(hosts.list()) + "}";
        case "listHosts":
            return array(hosts.list().stream().map(Host::name));
        case "listVirtualMachines":
            return array(machines.placements().stream()
                    .filter(placement -> placement.machine().account().equals(call.get("account")))
                    .map(placement -> placement.machine().name()));
        default:
            throw new IllegalStateException("no code for '" + command + "'");
        }
    }

    private static String array(Stream<String> names) {
        return names.map(ApiServlet::quote).collect(Collectors.joining(", ", "[", "]"));
    }

    private static String quote(String text) {
        return text.chars().mapToObj(c -> c < ' ' || c == '"' || c == '\\' ? String.format("\\u%04x", c) : String.valueOf((char) c))
                .collect(Collectors.joining("", "\"", "\""));
    }
}
