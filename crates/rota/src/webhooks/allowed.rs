//! Where webhooks may go: to addresses that anybody can reach, and to those that the server was told to allow.
//!
//! Who may set up a webhook could else have the server call what only it reaches: itself, its network, what a cloud tells its
//! machines. The caller asks before each connection, with the address itself, since a name says nothing of where it leads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

/// What `--webhook-allow` names, beside what anybody can reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// All that there is.
    everything: bool,
    networks: Vec<IpNet>,
    /// Hosts, wherever they lead: names in small letters, `*.` before one for all below it.
    hosts: Vec<String>,
}

/// Why an address is not called.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{address} is {class}, and the server's --webhook-allow names neither it nor its host")]
pub(crate) struct Forbidden {
    /// Where it would have gone.
    pub(crate) address: IpAddr,
    /// What is special about it.
    class: &'static str,
}

/// Networks of IPv4 that not anybody can reach, or that are no single machine: IANA's registry of special-purpose addresses, and
/// one that a cloud took from its own.
const V4: &[(Ipv4Net, &str)] = &[
    (v4(Ipv4Addr::new(0, 0, 0, 0), 8), "unspecified"),
    (v4(Ipv4Addr::new(10, 0, 0, 0), 8), "private"),
    (v4(Ipv4Addr::new(100, 64, 0, 0), 10), "shared by a provider's customers"),
    (v4(Ipv4Addr::new(127, 0, 0, 0), 8), "loopback"),
    (v4(Ipv4Addr::new(168, 63, 129, 16), 32), "a cloud's metadata"),
    (v4(Ipv4Addr::new(169, 254, 0, 0), 16), "link-local"),
    (v4(Ipv4Addr::new(172, 16, 0, 0), 12), "private"),
    (v4(Ipv4Addr::new(192, 0, 0, 0), 24), "reserved"),
    (v4(Ipv4Addr::new(192, 0, 2, 0), 24), "for documentation"),
    (v4(Ipv4Addr::new(192, 88, 99, 0), 24), "a relay's (6to4)"),
    (v4(Ipv4Addr::new(192, 168, 0, 0), 16), "private"),
    (v4(Ipv4Addr::new(198, 18, 0, 0), 15), "for benchmarks"),
    (v4(Ipv4Addr::new(198, 51, 100, 0), 24), "for documentation"),
    (v4(Ipv4Addr::new(203, 0, 113, 0), 24), "for documentation"),
    (v4(Ipv4Addr::new(224, 0, 0, 0), 4), "multicast"),
    (v4(Ipv4Addr::BROADCAST, 32), "broadcast"),
    (v4(Ipv4Addr::new(240, 0, 0, 0), 4), "reserved"),
];

/// The same of IPv6. What is neither in here nor in [`GLOBAL`] is reserved.
const V6: &[(Ipv6Net, &str)] = &[
    (v6(Ipv6Addr::UNSPECIFIED, 128), "unspecified"),
    (v6(Ipv6Addr::LOCALHOST, 128), "loopback"),
    (v6(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32), "a tunnel's (Teredo)"),
    (v6(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), "reserved"),
    (v6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), "for documentation"),
    (v6(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), "a tunnel's (6to4)"),
    (v6(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), "for documentation"),
    (v6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7), "private"),
    (v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), "link-local"),
    (v6(Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10), "private"),
    (v6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8), "multicast"),
];

/// Where all addresses of IPv6 are that were given to anybody.
const GLOBAL: Ipv6Net = v6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Behind these a gateway (NAT64) calls the address of IPv4 that the last four bytes are.
const BY_GATEWAY: Ipv6Net = v6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

const fn v4(address: Ipv4Addr, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(address, length)
}

const fn v6(address: Ipv6Addr, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(address, length)
}

impl Allowed {
    /// Refuses an address that a host leads to, if it is special and not allowed.
    ///
    /// # Errors
    /// [`Forbidden`]: what it is.
    pub(crate) fn check(&self, host: &str, address: IpAddr) -> Result<(), Forbidden> {
        let inner = inner(address);
        let Some(class) = class(inner) else { return Ok(()) };
        let is_named = self.networks.iter().any(|network| network.contains(&address) || network.contains(&inner));
        match self.everything || is_named || self.names(host) {
            true => Ok(()),
            false => Err(Forbidden { address: inner, class }),
        }
    }

    /// Refuses a host, as an address of a page has it, that is itself such an address.
    ///
    /// # Errors
    /// [`Forbidden`]: what it is.
    pub(crate) fn check_literal(&self, host: &str) -> Result<(), Forbidden> {
        match host.trim_matches(['[', ']']).parse() {
            Ok(address) => self.check(host, address),
            Err(_) => Ok(()),
        }
    }

    /// The same, and of names that one alone, which leads to this machine wherever it is asked for.
    ///
    /// # Errors
    /// [`Forbidden`]: what it is.
    pub(crate) fn check_host(&self, host: &str) -> Result<(), Forbidden> {
        let name = plain(host);
        if name == "localhost" || name.ends_with(".localhost") {
            let here = self.check(host, Ipv4Addr::LOCALHOST.into());
            return here.or_else(|error| self.check(host, Ipv6Addr::LOCALHOST.into()).map_err(|_| error));
        }
        self.check_literal(host)
    }

    fn names(&self, host: &str) -> bool {
        let host = plain(host);
        self.hosts.iter().any(|name| match name.strip_prefix("*.") {
            Some(above) => host.strip_suffix(above).is_some_and(|front| front.ends_with('.')),
            None => host == *name,
        })
    }
}

impl FromStr for Allowed {
    type Err = String;

    /// Reads addresses, networks and names of hosts, with commas between them.
    fn from_str(text: &str) -> Result<Allowed, String> {
        let mut allowed = Allowed::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let address = entry.trim_matches(['[', ']']).parse::<IpAddr>().map(IpNet::from);
            match entry.parse::<IpNet>().or(address) {
                Ok(network) if network != network.trunc() => {
                    let (length, begin) = (network.prefix_len(), network.trunc());
                    return Err(format!("{entry:?} goes on behind its first {length} bits: write {begin}"));
                }
                Ok(network) => allowed.networks.push(network),
                Err(_) if entry == "*" => allowed.everything = true,
                Err(_) if is_host(entry) => allowed.hosts.push(plain(entry)),
                Err(_) => {
                    return Err(format!(
                        "{entry:?} is no address, network or host: write 10.0.0.7, 10.0.0.0/8, fd00::/8, hooks.internal or \
                         *.internal, without ports, or * for any"
                    ));
                }
            }
        }
        Ok(allowed)
    }
}

/// A name as it is compared: in small letters, without the dot that ends it.
fn plain(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Whether that can be the name of a host, or of all below one. What ends with a number is an address to who calls it.
fn is_host(entry: &str) -> bool {
    let name = plain(entry.strip_prefix("*.").unwrap_or(entry));
    let is_part_of_it = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    name.len() <= 253 && name.bytes().all(is_part_of_it) && !is_number
}

/// The address that is called in the end where one of IPv6 stands for one of IPv4.
fn inner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if BY_GATEWAY.contains(&v6) => {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        address => address,
    }
}

/// What is special about an address; none of one that anybody can reach.
fn class(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => V4.iter().find(|(network, _)| network.contains(&address)).map(|(_, class)| *class),
        IpAddr::V6(address) => {
            let named = V6.iter().find(|(network, _)| network.contains(&address)).map(|(_, class)| *class);
            named.or_else(|| (!GLOBAL.contains(&address)).then_some("reserved"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowed(text: &str) -> Allowed {
        text.parse().expect(text)
    }

    fn refused(allowed: &Allowed, host: &str, address: &str) -> bool {
        allowed.check(host, address.parse().expect(address)).is_err()
    }

    #[test]
    fn each_class_of_special_addresses_is_known_up_to_its_bounds() {
        let class_of = |text: &str| class(inner(text.parse().expect(text)));
        for (first, last, name) in [
            ("0.0.0.0", "0.255.255.255", "unspecified"),
            ("10.0.0.0", "10.255.255.255", "private"),
            ("100.64.0.0", "100.127.255.255", "shared by a provider's customers"),
            ("127.0.0.0", "127.255.255.255", "loopback"),
            ("168.63.129.16", "168.63.129.16", "a cloud's metadata"),
            ("169.254.0.0", "169.254.255.255", "link-local"),
            ("172.16.0.0", "172.31.255.255", "private"),
            ("192.168.0.0", "192.168.255.255", "private"),
            ("198.18.0.0", "198.19.255.255", "for benchmarks"),
            ("203.0.113.0", "203.0.113.255", "for documentation"),
            ("224.0.0.0", "239.255.255.255", "multicast"),
            ("240.0.0.0", "255.255.255.254", "reserved"),
            ("255.255.255.255", "255.255.255.255", "broadcast"),
            ("::", "::", "unspecified"),
            ("::1", "::1", "loopback"),
            ("::2", "64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"),
            ("64:ff9b:1::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"),
            ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "a tunnel's (Teredo)"),
            ("2001:1::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "for documentation"),
            ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "a tunnel's (6to4)"),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "for documentation"),
            ("4000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "private"),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "link-local"),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"),
            ("::ffff:127.0.0.1", "::ffff:127.255.255.255", "loopback"),
            ("64:ff9b::169.254.169.254", "64:ff9b::169.254.169.254", "link-local"),
            ("fd00:ec2::254", "fd20:ce::254", "private"),
        ] {
            assert_eq!([class_of(first), class_of(last)], [Some(name); 2], "{first} {last}");
        }
        for anybodys in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "128.0.0.0",
            "168.63.129.15",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:200::",
            "2001:db7:ffff::",
            "2003::",
            "2606:4700::1111",
            "3ffe::1",
        ] {
            assert_eq!(class_of(anybodys), None, "{anybodys}");
        }
    }

    #[test]
    fn what_is_named_is_allowed_and_nothing_beside_it() {
        let none = Allowed::default();
        assert!(refused(&none, "a", "10.1.2.3") && !refused(&none, "a", "8.8.8.8"));
        let some = allowed("10.1.0.0/16, 127.0.0.1,[::1],hooks.Internal.,*.lan");
        for (host, address, is_refused) in [
            ("a", "10.1.2.3", false),
            ("a", "::ffff:10.1.2.3", false),
            ("a", "64:ff9b::10.1.2.3", false),
            ("a", "10.2.0.0", true),
            ("a", "127.0.0.1", false),
            ("a", "127.0.0.2", true),
            ("a", "::1", false),
            ("a", "fe80::1", true),
            ("HOOKS.internal", "10.2.0.0", false),
            ("hooks.internal.", "169.254.169.254", false),
            ("more.hooks.internal", "10.2.0.0", true),
            ("hooks.internal.example", "10.2.0.0", true),
            ("one.lan", "fe80::1", false),
            ("two.one.lan", "fe80::1", false),
            ("lan", "fe80::1", true),
            ("wlan", "fe80::1", true),
        ] {
            assert_eq!(refused(&some, host, address), is_refused, "{host} {address}");
        }
        assert!(!refused(&allowed("*"), "a", "0.0.0.0"));
        assert!(!refused(&allowed("::ffff:10.0.0.0/104"), "a", "::ffff:10.1.2.3"));
        for (host, is_refused) in
            [("[::1]", true), ("127.0.0.1", true), ("localhost", false), ("8.8.8.8", false), ("a", false)]
        {
            assert_eq!(none.check_literal(host).is_err(), is_refused, "{host}");
        }
        for name in ["localhost", "LocalHost.", "a.localhost"] {
            assert!(none.check_host(name).is_err());
            for named in ["127.0.0.1", "::1", "127.0.0.0/8", "localhost,*.localhost", "*"] {
                assert!(allowed(named).check_host(name).is_ok(), "{name} {named}");
            }
        }
        assert!(none.check_host("localhost.example").is_ok() && none.check_host("mylocalhost").is_ok());
    }

    #[test]
    fn what_names_nothing_is_refused_and_says_what_to_write() {
        assert_eq!(allowed(""), Allowed::default());
        assert_eq!(allowed(" , "), Allowed::default());
        for bad in
            ["10.1", "10.0.0.0/33", "300.1.1.1", "a b", "http://a", "a:80", "127.0.0.1:80", "*a", "**", "0x7f", "é"]
        {
            let error = bad.parse::<Allowed>().expect_err(bad);
            assert!(error.starts_with(&format!("{bad:?} is no address, network or host: write ")), "{error}");
        }
        let error = "a,10.0.0.7/8".parse::<Allowed>().expect_err("it is two things");
        assert_eq!(error, "\"10.0.0.7/8\" goes on behind its first 8 bits: write 10.0.0.0/8");
    }

    proptest! {
        /// Held against what the standard library knows of it, and the rest by hand.
        #[test]
        fn an_address_of_ipv4_is_special_in_whatever_it_is_wrapped(bits: u32, near in 0_usize..V4.len(), by in -2_i64..3) {
            let (network, _) = V4[near];
            let bound = if by < 0 { network.network() } else { network.broadcast() };
            let at_a_bound = (i64::from(bound.to_bits()) + by).clamp(0, i64::from(u32::MAX));
            for bits in [bits, u32::try_from(at_a_bound).expect("it was clamped")] {
                let v4 = Ipv4Addr::from_bits(bits);
                let [a, b, c, d] = v4.octets();
                let is_special = a == 0
                    || v4.is_private()
                    || v4.is_loopback()
                    || v4.is_link_local()
                    || v4.is_multicast()
                    || v4.is_documentation()
                    || a >= 240
                    || (a == 100 && b & 0xc0 == 64)
                    || (a == 198 && b & 0xfe == 18)
                    || [[192, 0, 0], [192, 88, 99]].contains(&[a, b, c])
                    || [a, b, c, d] == [168, 63, 129, 16];
                let wrapped = [v4.to_ipv6_mapped(), Ipv6Addr::from_bits(BY_GATEWAY.addr().to_bits() | u128::from(bits))];
                let all = [IpAddr::from(v4), wrapped[0].into(), wrapped[1].into()];
                prop_assert_eq!(all.map(|address| Allowed::default().check("a", address).is_err()), [is_special; 3], "{}", v4);
                // Where it is named in its own form, it is allowed in every form; and everything is where all is named.
                let named: Allowed = v4.to_string().parse().expect("an address");
                prop_assert!(all.iter().all(|address| named.check("a", *address).is_ok()));
            }
        }

        /// None of IPv6 is called that is not in the one range of those that were given to anybody, but for wrapped ones.
        #[test]
        fn an_address_of_ipv6_outside_of_what_was_given_out_is_special(bits: u128) {
            let v6 = Ipv6Addr::from_bits(bits);
            let is_given_out = v6.segments()[0] >> 13 == 1;
            let is_called = Allowed::default().check("a", v6.into()).is_ok();
            prop_assert!(!is_called || is_given_out || IpAddr::from(v6) != inner(v6.into()), "{}", v6);
            prop_assert!(!(v6.is_loopback() || v6.is_multicast() || v6.is_unique_local() || v6.is_unicast_link_local()) || !is_called);
        }

        #[test]
        fn whatever_is_named_is_read_or_refused(text in "[0-9a-f.:/*, \\[\\]x-]{0,30}") {
            let _ = text.parse::<Allowed>();
        }
    }
}
