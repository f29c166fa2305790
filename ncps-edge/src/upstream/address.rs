//! Kinds of addresses: where nobody may send us, and where only some may.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address means to somebody who is sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Public,
    /// This machine, or a private network: RFC 1918, RFC 4193, RFC 6598.
    Private,
    /// Link-local, a cloud's metadata service, or nothing that can be connected to.
    Never,
}

/// Metadata services that are not link-local: of AWS, Google and Oracle by IPv6, of Alibaba, Azure, Oracle.
const METADATA: [IpAddr; 6] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

pub(super) fn kind(addr: IpAddr) -> Kind {
    let addr = unwrapped(addr);
    if METADATA.contains(&addr) {
        return Kind::Never;
    }
    match addr {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped (`::ffff:0:0/96`) or by NAT64 (`64:ff9b::/96`).
fn unwrapped(addr: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = addr else { return addr };
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        // The same in a form that nobody uses any more (RFC 4291, 2.5.5.1); `::` and `::1` are themselves.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        _ => addr.to_canonical(),
    }
}

fn kind_v4(v4: Ipv4Addr) -> Kind {
    let [a, b, ..] = v4.octets();
    if v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() {
        Kind::Never
    } else if a == 0 || v4.is_loopback() || v4.is_private() || (a == 100 && (64..128).contains(&b)) {
        Kind::Private
    } else {
        Kind::Public
    }
}

fn kind_v6(v6: Ipv6Addr) -> Kind {
    // A network's own NAT64 (RFC 8215) may lead anywhere.
    let translated = v6.segments()[..3] == [0x64, 0xff9b, 1];
    if v6.is_unicast_link_local() || v6.is_multicast() || translated {
        Kind::Never
    } else if v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_unique_local()
        || v6.segments()[0] & 0xffc0 == 0xfec0
    {
        Kind::Private
    } else {
        Kind::Public
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_a_kind() {
        for (kind_of, addresses) in [
            (Kind::Public, &["1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1", "64:ff9b::101:101"][..]),
            (Kind::Private, &["127.0.0.1", "0.0.0.0", "10.1.2.3", "172.31.0.1", "192.168.0.1", "100.64.0.1"]),
            (Kind::Private, &["::1", "::", "fd12::1", "fec0::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]),
            (
                Kind::Never,
                &["169.254.169.254", "169.254.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192"],
            ),
            (
                Kind::Never,
                &[
                    "fe80::1",
                    "fd00:ec2::254",
                    "fd20:ce::254",
                    "::169.254.169.254",
                    "64:ff9b:1::1",
                    "::ffff:169.254.169.254",
                    "64:ff9b::a9fe:a9fe",
                ],
            ),
            (Kind::Never, &["224.0.0.1", "255.255.255.255", "ff02::1"]),
        ] {
            for address in addresses {
                assert_eq!(kind(address.parse().expect("an address")), kind_of, "{address}");
            }
        }
    }
}
