// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.schema;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.util.List;

import org.junit.Test;

public class UpgradePathTest {

    @Test
    public void versionsCompareByNumber() {
        assertTrue(Version.parse("4.9.3").compareTo(Version.parse("4.21.0.0-SNAPSHOT")) < 0);
        assertEquals(Version.parse("4.21"), Version.parse("4.21.0.0"));
        assertEquals(Version.parse("4.21").hashCode(), Version.parse("4.21.0.0").hashCode());
    }

    @Test
    public void goesFromVersionToVersion() {
        List<UpgradePath.Step> path = UpgradePath.load().between(Version.parse("4.19.0.0"), Version.parse("4.21.0.0"));
        assertEquals(3, path.size());
        assertTrue(path.get(2).sql().contains("'4.21.0.0'"));
        assertThrows(IllegalStateException.class,
                () -> UpgradePath.load().between(Version.parse("4.18.0.0"), Version.parse("4.21.0.0")));
    }
}
