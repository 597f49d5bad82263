// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.api;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.util.List;

import org.junit.Test;

public class ApiCommandsTest {

    @Test
    public void readsTheList() {
        ApiCommands commands = ApiCommands.load();
        assertTrue(commands.names().contains("listHosts"));
        assertEquals(List.of("name", "account", "cpuMhz", "memory"), commands.required("deployVirtualMachine"));
        assertEquals(List.of(), commands.required("listCapacity"));
        assertThrows(IllegalArgumentException.class, () -> commands.required("makeTea"));
    }
}
