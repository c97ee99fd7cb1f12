//! Where a client wants to be asked by HTTP, and whether Optic may go there.
//!
//! Any client says what address it likes, and Optic stands where others do not: beside its own machine's services, in
//! a cloud that gives its credentials to whoever asks from within. Such addresses are refused unless
//! `SINGYEONG_PROXY_ALLOW` has them. Knows no socket: whoever resolves a name asks about each address that comes out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

/// The base of a client's HTTP addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// By TLS.
    pub encrypted: bool,
    /// The host: a name, or an address without the forms that hide one in another.
    pub host: Host<String>,
    /// The port, also where it is the usual one.
    pub port: u16,
    /// The path that all routes lie under, without `/` at its end.
    path: String,
}

/// A client's address that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address for requests: there are a host, host:port, and an http(s):// base")]
pub struct BadAddress(String);

impl Base {
    /// Reads a client's `ip`: a host, `host:port`, an IPv6 address with brackets or without, or an `http(s)://` base.
    ///
    /// # Errors
    /// It is none of them, or has a user, a query or a fragment.
    pub fn read(ip: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(ip.to_owned());
        let url = if ip.starts_with("http://") || ip.starts_with("https://") {
            ip.to_owned()
        } else if let Ok(address) = ip.parse::<Ipv6Addr>() {
            format!("http://[{address}]")
        } else if ip.contains("://") {
            return Err(bad());
        } else {
            format!("http://{ip}")
        };
        let url = Url::parse(&url).map_err(|_| bad())?;
        let is_more =
            !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some();
        let (host, port) = (url.host().ok_or_else(bad)?, url.port_or_known_default().ok_or_else(bad)?);
        if is_more || port == 0 {
            return Err(bad());
        }
        let host = match host {
            Host::Domain(name) => Host::Domain(name.to_owned()),
            Host::Ipv4(address) => Host::Ipv4(address),
            Host::Ipv6(address) => match IpAddr::V6(address).to_canonical() {
                IpAddr::V4(address) => Host::Ipv4(address),
                IpAddr::V6(address) => Host::Ipv6(address),
            },
        };
        Ok(Self { encrypted: url.scheme() == "https", host, port, path: url.path().trim_end_matches('/').to_owned() })
    }

    /// Host and port, as the `Host` header has them.
    pub fn authority(&self) -> String {
        let usual = if self.encrypted { 443 } else { 80 };
        if self.port == usual { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Path and query of a route; whether it begins with `/` makes no difference.
    pub fn target(&self, route: &str) -> String {
        format!("{}/{}", self.path, route.strip_prefix('/').unwrap_or(route))
    }
}

/// Where Optic may go besides what anybody may ask for.
#[derive(Clone, Debug, Default)]
pub struct Allowed(Vec<IpNet>);

impl Allowed {
    /// These networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether Optic may connect to this address.
    pub fn permits(&self, address: IpAddr) -> bool {
        let canonical = address.to_canonical();
        let is_allowed = |address: &IpAddr| self.0.iter().any(|network| network.contains(address));
        is_allowed(&address) || is_allowed(&canonical) || !is_delicate(canonical)
    }
}

/// Whether an address leads to this machine, to its link, to many, or to what clouds keep for the machine alone.
fn is_delicate(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_delicate_v4(address),
        IpAddr::V6(address) => is_delicate_v6(address),
    }
}

fn is_delicate_v4(address: Ipv4Addr) -> bool {
    let octets = address.octets();
    address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        // 0.0.0.0/8, "this network"; and 240.0.0.0/4, which nobody has, with 255.255.255.255.
        || octets[0] == 0
        || octets[0] >= 240
        // Assigned to protocols; Oracle's cloud has its metadata there, and Alibaba's in what carriers share.
        || octets[..3] == [192, 0, 0]
        || octets == [100, 100, 100, 200]
        // Azure's, for its machines alone.
        || octets == [168, 63, 129, 16]
}

fn is_delicate_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high, low].map(u16::to_be_bytes);
        is_delicate_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // ::, ::1, and IPv4 addresses as nobody writes them any more.
        [0, 0, 0, 0, 0, 0, ..] => true,
        // IPv4 as SIIT translates it.
        [0, 0, 0, 0, 0xffff, 0, high, low] => embedded(high, low),
        // IPv4 behind NAT64 and in 6to4; Teredo and NAT64's local form hide it better than is worth reading.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..] => true,
        // Amazon's metadata.
        [0xfd00, 0xec2, ..] => true,
        [first, ..] => address.is_multicast() || (first & 0xffc0) == 0xfe80 || (first & 0xffc0) == 0xfec0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ip: &str) -> (bool, String, u16, String) {
        let base = Base::read(ip).unwrap_or_else(|error| panic!("{error}"));
        (base.encrypted, base.host.to_string(), base.port, base.target("/a?b=c"))
    }

    #[test]
    fn an_address_is_a_host_a_port_a_base_or_a_bare_address() {
        let plain = |host: &str, port| (false, host.to_owned(), port, "/a?b=c".to_owned());
        assert_eq!(read("10.1.2.3"), plain("10.1.2.3", 80));
        assert_eq!(read("10.1.2.3:8080"), plain("10.1.2.3", 8080));
        assert_eq!(read("worker.internal:81"), plain("worker.internal", 81));
        assert_eq!(read("2001:db8::1"), plain("[2001:db8::1]", 80));
        assert_eq!(read("[2001:db8::1]:8080"), plain("[2001:db8::1]", 8080));
        assert_eq!(read("0000:0000:0000:0000:0000:ffff:0a01:0203"), plain("10.1.2.3", 80));
        assert_eq!(read("::ffff:10.1.2.3"), plain("10.1.2.3", 80));
        assert_eq!(read("http://worker"), plain("worker", 80));
        assert_eq!(read("https://worker/base/"), (true, "worker".to_owned(), 443, "/base/a?b=c".to_owned()));
    }

    #[test]
    fn what_is_no_address_is_named() {
        for bad in ["", "a b", "host:99999", "host:0", "ftp://host", "http://", "user:word@host", "host?a", "host#a"] {
            let error = Base::read(bad).expect_err(bad);
            assert!(error.to_string().starts_with(&format!("{bad:?} is no address")), "{error}");
        }
    }

    #[test]
    fn the_host_header_has_the_port_where_it_is_not_the_usual_one() {
        let authority = |ip: &str| Base::read(ip).expect("an address").authority();
        assert_eq!(authority("10.1.2.3:80"), "10.1.2.3");
        assert_eq!(authority("[2001:db8::1]:81"), "[2001:db8::1]:81");
        assert_eq!(authority("https://worker:443"), "worker");
        assert_eq!(authority("https://worker:80"), "worker:80");
    }

    #[test]
    fn delicate_addresses_are_refused_in_every_guise() {
        let permits = |address: &str| Allowed::default().permits(address.parse().expect("an address"));
        for delicate in [
            "127.0.0.1",
            "127.255.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.0.192",
            "100.100.100.200",
            "168.63.129.16",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "::ffff:0:127.0.0.1",
            "::ffff:0:168.63.129.16",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "2001:0:1::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
        ] {
            assert!(!permits(delicate), "{delicate}");
        }
        for common in [
            "10.0.0.1",
            "172.17.0.2",
            "192.168.1.1",
            "100.64.0.1",
            "93.184.216.34",
            "fd12::1",
            "2606:4700::1",
            "64:ff9b::a00:1",
            "::ffff:10.0.0.1",
            "::ffff:0:10.0.0.1",
            "168.63.129.17",
        ] {
            assert!(permits(common), "{common}");
        }
    }

    #[test]
    fn what_is_allowed_is_permitted_in_every_guise_and_nothing_else() {
        let allowed = Allowed::new(vec!["127.0.0.0/8".parse().expect("a network"), "::1/128".parse().expect("one")]);
        let permits = |address: &str| allowed.permits(address.parse().expect("an address"));
        assert!(permits("127.0.0.1") && permits("::ffff:127.0.0.1") && permits("::1"));
        assert!(!permits("169.254.169.254") && !permits("::") && !permits("fe80::1"));
        assert!(permits("10.0.0.1"), "what anybody may ask for stays so");
    }
}
