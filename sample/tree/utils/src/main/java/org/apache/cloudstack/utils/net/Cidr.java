// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.utils.net;

import java.util.Optional;
import java.util.Set;
import java.util.stream.LongStream;

/**
 * A block of IPv4 addresses, such as 10.1.0.0/22.
 */
public record Cidr(Ipv4Address network, int prefix) {

    public Cidr {
        if (prefix < 0 || prefix > 32) {
            throw new IllegalArgumentException("prefix length " + prefix + " is not from 0 to 32");
        }
        if ((network.bits() & ~mask(prefix)) != 0) {
            throw new IllegalArgumentException(network + "/" + prefix + " has host bits set");
        }
    }

    /** Reads "address/prefix". */
    public static Cidr parse(String text) {
        int slash = text.indexOf('/');
        if (slash < 0) {
            throw new IllegalArgumentException("expected '/' in '" + text + "'");
        }
        return new Cidr(Ipv4Address.parse(text.substring(0, slash)), Integer.parseInt(text.substring(slash + 1)));
    }

    /** How many addresses the block has, the network and the broadcast address included. */
    public long size() {
        return 1L << 32 - prefix;
    }

    public boolean contains(Ipv4Address address) {
        return (address.bits() & mask(prefix)) == network.bits();
    }

    /**
     * The lowest address that a guest may be given and that is not taken.
     *
     * <p>The network and the broadcast address are never given; blocks of one or two addresses have neither (RFC 3021).
     */
    public Optional<Ipv4Address> firstFree(Set<Ipv4Address> taken) {
        long edge = prefix >= 31 ? 0 : 1;
        return LongStream.range(edge, size() - edge).mapToObj(network::plus).filter(a -> !taken.contains(a)).findFirst();
    }

    private static int mask(int prefix) {
        return prefix == 0 ? 0 : -1 << 32 - prefix;
    }

    @Override
    public String toString() {
        return network + "/" + prefix;
    }
}
