// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack;

import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.time.Clock;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import org.apache.cloudstack.api.Capacity;
import org.apache.cloudstack.api.Host;
import org.apache.cloudstack.api.Hypervisor;
import org.apache.cloudstack.planner.UserConcentratedPodPlanner;
import org.apache.cloudstack.schema.HostDao;
import org.apache.cloudstack.server.CapacityManager;
import org.apache.cloudstack.server.VirtualMachineManager;
import org.apache.cloudstack.simulator.SimulatedHypervisor;

/**
 * The management server: the API under /client/api and the pages of META-INF/webapp, on the loopback address.
 */
public final class ServerDaemon {

    private ServerDaemon() {
    }

    public static void main(String[] args) throws IOException {
        if (args.length > 0 && args[0].equals("--version")) {
            System.out.println("Apache CloudStack " + version() + " (sample)");
            return;
        }
        int port = args.length > 0 ? Integer.parseInt(args[0]) : 8080;
        HttpServer server = start(port);
        System.out.println("Listening on http://localhost:" + server.getAddress().getPort() + "/client/");
    }

    /** Starts the server with four simulated hosts; port 0 takes any free one. */
    static HttpServer start(int port) throws IOException {
        HostDao hosts = new HostDao();
        Map<String, Hypervisor> hypervisors = new TreeMap<>();
        for (int i = 1; i <= 4; i++) {
            Capacity total = new Capacity(16_000, 64L << 30);
            hosts.persist(new Host("sim" + i, "pod" + (i + 1) / 2, total, Capacity.NONE));
            hypervisors.put("sim" + i, new SimulatedHypervisor(total));
        }
        CapacityManager capacity = new CapacityManager(1.0, 1.0);
        VirtualMachineManager machines = new VirtualMachineManager(
                hosts, capacity, new UserConcentratedPodPlanner(), hypervisors, Clock.systemUTC());
        ApiServlet api = new ApiServlet(hosts, capacity, machines);
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
        server.createContext("/client/api", exchange -> answer(exchange, api));
        server.createContext("/client/", ServerDaemon::page);
        server.start();
        return server;
    }

    static String version() throws IOException {
        Properties properties = new Properties();
        try (InputStream in = ServerDaemon.class.getResourceAsStream("/cloudstack.properties")) {
            properties.load(in);
        }
        return properties.getProperty("version");
    }

    static Map<String, String> query(URI uri) {
        Map<String, String> parameters = new LinkedHashMap<>();
        String query = uri.getRawQuery() == null ? "" : uri.getRawQuery();
        for (String pair : query.split("&")) {
            int equals = pair.indexOf('=');
            if (equals > 0) {
                parameters.put(URLDecoder.decode(pair.substring(0, equals), StandardCharsets.UTF_8),
                        URLDecoder.decode(pair.substring(equals + 1), StandardCharsets.UTF_8));
            }
        }
        return parameters;
    }

    private static void answer(HttpExchange exchange, ApiServlet api) throws IOException {
        try {
            send(exchange, 200, "application/json", api.answer(query(exchange.getRequestURI())).getBytes(StandardCharsets.UTF_8));
        } catch (IllegalArgumentException | ArithmeticException e) {
            send(exchange, 400, "text/plain", (e.getMessage() + "\n").getBytes(StandardCharsets.UTF_8));
        }
    }

    private static void page(HttpExchange exchange) throws IOException {
        String name = exchange.getRequestURI().getPath().equals("/client/") ? "index.html" : "";
        try (InputStream in = ServerDaemon.class.getResourceAsStream("/META-INF/webapp/" + name)) {
            if (name.isEmpty() || in == null) {
                send(exchange, 404, "text/plain", "not found\n".getBytes(StandardCharsets.UTF_8));
            } else {
                send(exchange, 200, "text/html", in.readAllBytes());
            }
        }
    }

    private static void send(HttpExchange exchange, int status, String type, byte[] body) throws IOException {
        exchange.getResponseHeaders().set("Content-Type", type + "; charset=utf-8");
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }
}
