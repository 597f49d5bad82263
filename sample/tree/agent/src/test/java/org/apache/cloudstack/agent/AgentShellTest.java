// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.agent;

import static org.junit.Assert.assertEquals;

import org.apache.cloudstack.api.Capacity;
import org.apache.cloudstack.simulator.SimulatedHypervisor;
import org.junit.Test;

public class AgentShellTest {

    private final AgentShell shell = new AgentShell(new SimulatedHypervisor(new Capacity(2000, 4L << 30)));

    @Test
    public void answersEveryLine() {
        assertEquals("OK", shell.answer("LIST"));
        assertEquals("OK web", shell.answer("START web alice 500 1GiB"));
        assertEquals("OK db", shell.answer(" START  db alice 500 1GiB "));
        assertEquals("OK db web", shell.answer("LIST"));
        assertEquals("OK db", shell.answer("STOP db"));
        assertEquals("ERROR no guest 'db'", shell.answer("STOP db"));
    }

    @Test
    public void tellsWhatIsWrong() {
        assertEquals("ERROR START takes 4 words, got 1", shell.answer("START web"));
        assertEquals("ERROR unknown unit 'stone' in '1stone'", shell.answer("START web alice 500 1stone"));
        assertEquals("ERROR 'web' needs 500 MHz, 8.0 GiB, free are 2000 MHz, 4.0 GiB", shell.answer("START web alice 500 8GiB"));
        assertEquals("ERROR unknown command 'REBOOT'", shell.answer("REBOOT web"));
    }
}
