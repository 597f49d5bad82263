// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.api;

/**
 * A guest that an account has asked for.
 */
public record VirtualMachine(String name, String account, Capacity size) {
}
