// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.api;

import java.util.Map;

/**
 * Starts and stops guests on one host.
 */
public interface Hypervisor {

    /**
     * Starts a guest.
     *
     * @throws IllegalStateException if a guest of that name runs already, or if there is no room for it
     */
    void start(VirtualMachine machine);

    /** Stops a guest; false if none of that name runs. */
    boolean stop(String name);

    /** The running guests by name, in the order of their names. */
    Map<String, VirtualMachine> running();
}
