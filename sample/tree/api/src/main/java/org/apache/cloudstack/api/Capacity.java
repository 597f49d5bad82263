// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.api;

import org.apache.cloudstack.utils.ByteSize;

/**
 * An amount of computing: processor speed in MHz and memory in bytes. Never negative.
 */
public record Capacity(long cpuMhz, long memoryBytes) {

    public static final Capacity NONE = new Capacity(0, 0);

    public Capacity {
        if (cpuMhz < 0 || memoryBytes < 0) {
            throw new IllegalArgumentException("negative capacity: " + cpuMhz + " MHz, " + memoryBytes + " bytes");
        }
    }

    public Capacity plus(Capacity other) {
        return new Capacity(Math.addExact(cpuMhz, other.cpuMhz), Math.addExact(memoryBytes, other.memoryBytes));
    }

    /** What is left, or nothing where more was taken than there is (possible after overcommitting). */
    public Capacity minus(Capacity other) {
        return new Capacity(Math.max(0, cpuMhz - other.cpuMhz), Math.max(0, memoryBytes - other.memoryBytes));
    }

    /** Scales processor and memory each by its own factor, rounding down. */
    public Capacity times(double cpuFactor, double memoryFactor) {
        return new Capacity((long) (cpuMhz * cpuFactor), (long) (memoryBytes * memoryFactor));
    }

    public boolean fitsIn(Capacity room) {
        return cpuMhz <= room.cpuMhz && memoryBytes <= room.memoryBytes;
    }

    @Override
    public String toString() {
        return cpuMhz + " MHz, " + ByteSize.format(memoryBytes);
    }
}
