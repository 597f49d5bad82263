// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.utils.net;

/**
 * An IPv4 address: 32 bits, ordered as the numbers they are (128.0.0.0 comes after 127.255.255.255).
 */
public record Ipv4Address(int bits) implements Comparable<Ipv4Address> {

    /**
     * Reads the dotted form with exactly four decimal parts.
     *
     * <p>Leading zeros are refused: some resolvers read them as octal, so "010.0.0.1" has two meanings.
     *
     * @throws IllegalArgumentException if the text is anything else
     */
    public static Ipv4Address parse(String text) {
        String[] parts = text.split("\\.", -1);
        if (parts.length != 4) {
            throw new IllegalArgumentException("expected four parts in IPv4 address '" + text + "'");
        }
        int bits = 0;
        for (String part : parts) {
            bits = bits << 8 | octet(part, text);
        }
        return new Ipv4Address(bits);
    }

    private static int octet(String part, String text) {
        boolean digits = !part.isEmpty() && part.length() <= 3 && part.chars().allMatch(c -> c >= '0' && c <= '9');
        boolean leadingZero = part.length() > 1 && part.charAt(0) == '0';
        if (!digits || leadingZero || Integer.parseInt(part) > 255) {
            throw new IllegalArgumentException("'" + part + "' is not a number from 0 to 255 in IPv4 address '" + text + "'");
        }
        return Integer.parseInt(part);
    }

    /** The address that many steps further on, which may be negative. */
    public Ipv4Address plus(long steps) {
        long sum = Integer.toUnsignedLong(bits) + steps;
        if (sum < 0 || sum > 0xFFFF_FFFFL) {
            throw new ArithmeticException(this + " plus " + steps + " leaves the IPv4 address space");
        }
        return new Ipv4Address((int) sum);
    }

    @Override
    public int compareTo(Ipv4Address other) {
        return Integer.compareUnsigned(bits, other.bits);
    }

    @Override
    public String toString() {
        return (bits >>> 24) + "." + (bits >>> 16 & 255) + "." + (bits >>> 8 & 255) + "." + (bits & 255);
    }
}
