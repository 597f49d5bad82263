// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.api;

import java.util.Collection;
import java.util.List;

/**
 * Says in which order hosts are tried for a new guest.
 */
public interface DeploymentPlanner {

    /** All the given hosts, the best first. Whether the guest fits is for the caller to decide. */
    List<Host> order(VirtualMachine machine, Collection<Host> hosts, Collection<Placement> running);
}
