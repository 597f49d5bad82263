// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.schema;

import java.util.Arrays;
import java.util.stream.Collectors;

/**
 * A version of the database: numbers with dots, compared number by number, missing ones being zero.
 */
public final class Version implements Comparable<Version> {

    private final int[] numbers;

    private Version(int[] numbers) {
        this.numbers = numbers;
    }

    /** Reads "4.21.0.0"; a suffix such as "-SNAPSHOT" is left out. */
    public static Version parse(String text) {
        String[] parts = text.split("-", 2)[0].split("\\.");
        return new Version(Arrays.stream(parts).mapToInt(Integer::parseInt).toArray());
    }

    private int number(int index) {
        return index < numbers.length ? numbers[index] : 0;
    }

    @Override
    public int compareTo(Version other) {
        for (int i = 0; i < Math.max(numbers.length, other.numbers.length); i++) {
            int order = Integer.compare(number(i), other.number(i));
            if (order != 0) {
                return order;
            }
        }
        return 0;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Version && compareTo((Version) other) == 0;
    }

    @Override
    public int hashCode() {
        int hash = 0;
        for (int i = numbers.length - 1; i >= 0; i--) {
            // Trailing zeros leave the hash at zero, as equality demands.
            hash = hash * 31 + numbers[i];
        }
        return hash;
    }

    @Override
    public String toString() {
        return Arrays.stream(numbers).mapToObj(Integer::toString).collect(Collectors.joining("."));
    }
}
