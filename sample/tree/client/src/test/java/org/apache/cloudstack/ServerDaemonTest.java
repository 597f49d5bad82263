// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

import com.sun.net.httpserver.HttpServer;
import org.junit.After;
import org.junit.Before;
import org.junit.Test;

public class ServerDaemonTest {

    private HttpServer server;

    @Before
    public void start() throws Exception {
        server = ServerDaemon.start(0);
    }

    @After
    public void stop() {
        server.stop(0);
    }

    private HttpResponse<String> get(String path) throws Exception {
        URI uri = URI.create("http://localhost:" + server.getAddress().getPort() + path);
        return HttpClient.newHttpClient().send(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofString());
    }

    @Test
    public void deploysAndTellsTheUse() throws Exception {
        String deploy = "/client/api?command=deployVirtualMachine&account=alice&cpuMhz=16000&memory=32GiB&name=web%201";
        assertEquals("{\"jobs\": 1}", get(deploy).body());
        assertEquals("[\"web 1\"]", get("/client/api?command=listVirtualMachines&account=alice").body());
        assertEquals("{\"usedPercent\": 25}", get("/client/api?command=listCapacity").body());
        assertEquals("[\"sim1\", \"sim2\", \"sim3\", \"sim4\"]", get("/client/api?command=listHosts").body());
    }

    @Test
    public void refusesWithTheReason() throws Exception {
        assertEquals("listVirtualMachines lacks account\n", get("/client/api?command=listVirtualMachines").body());
        assertEquals(400, get("/client/api?command=makeTea").statusCode());
        assertEquals(404, get("/client/../pom.xml").statusCode());
        assertTrue(get("/client/").body().contains("<title>"));
    }

    @Test
    public void knowsItsVersion() throws Exception {
        assertTrue(ServerDaemon.version(), ServerDaemon.version().matches("\\d+(\\.\\d+)+(-SNAPSHOT)?"));
    }
}
