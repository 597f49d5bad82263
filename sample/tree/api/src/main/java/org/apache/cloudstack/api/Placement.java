// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.api;

/**
 * A guest and the host it runs on.
 */
public record Placement(VirtualMachine machine, Host host) {
}
