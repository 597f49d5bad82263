// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.schema;

import java.util.Collection;
import java.util.List;
import java.util.SortedMap;
import java.util.TreeMap;

import org.apache.cloudstack.api.Capacity;
import org.apache.cloudstack.api.Host;

/**
 * The hosts by name. Kept in memory: a sample needs no database.
 */
public final class HostDao {

    private final SortedMap<String, Host> hosts = new TreeMap<>();

    public void persist(Host host) {
        hosts.put(host.name(), host);
    }

    public Host find(String name) {
        Host host = hosts.get(name);
        if (host == null) {
            throw new IllegalArgumentException("no host '" + name + "'");
        }
        return host;
    }

    public Collection<Host> list() {
        return List.copyOf(hosts.values());
    }

    public Host update(String name, Capacity used) {
        Host old = find(name);
        Host host = new Host(old.name(), old.pod(), old.total(), used);
        persist(host);
        return host;
    }
}
