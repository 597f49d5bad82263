// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.api;

/**
 * A machine that runs guests, and what of it is in use.
 */
public record Host(String name, String pod, Capacity total, Capacity used) {

    public Capacity free() {
        return total.minus(used);
    }
}
