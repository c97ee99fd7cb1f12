//! A second address for the metrics, as spec-tacles/gateway has one.

use std::net::SocketAddr;

use super::report::Report;
use super::values::{address, is_same_place};
use super::variables::Raw;

/// Where the metrics are served besides `/metrics` at `HTTP_ADDRESS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prometheus {
    /// The address. Nothing else is there, unless it is that of all else too.
    pub address: SocketAddr,
    /// The path, with its slash.
    pub endpoint: String,
}

/// Where Prometheus looks unless it is told otherwise.
const ENDPOINT: &str = "/metrics";

/// The longest path.
const LONGEST: usize = 256;

/// Below these is what else is served.
const OTHERS: [&str; 3] = ["/health", "/api", "/page"];

/// `http` is the other address. It becomes this one where it is only the default and has the same port: spec-tacles' users
/// have `:8080`.
pub(super) fn parse(raw: &Raw, http: &mut Option<SocketAddr>, report: &mut Report) -> Option<Prometheus> {
    const ADDRESS: &str = "PROMETHEUS_ADDRESS";
    let endpoint = raw.prometheus_endpoint.as_deref().map(|text| endpoint(text, report));
    let text = raw.prometheus_address.as_deref().filter(|text| !text.trim().eq_ignore_ascii_case("off"));
    let Some(text) = text else {
        if endpoint.is_some() {
            let text = "has no effect without PROMETHEUS_ADDRESS; at HTTP_ADDRESS the metrics are at /metrics";
            report.warn("PROMETHEUS_ENDPOINT", text);
        }
        return None;
    };
    let address = address(ADDRESS, text, report)?;
    let endpoint = endpoint.unwrap_or_else(|| ENDPOINT.to_owned());
    if let Some(http) = http.as_mut().filter(|http| is_same_place(**http, address)) {
        if *http != address && raw.http_address.is_none() {
            *http = address;
            let text = "HTTP_ADDRESS is not set and would have this port: health and the page are served there too; \
                        set HTTP_ADDRESS to part them";
            report.warn(ADDRESS, text);
        } else if *http != address {
            let problem = "HTTP_ADDRESS has this port, at another address";
            report.wrong(ADDRESS, text, problem, "write the same address, or another port");
        }
        if endpoint == "/" || OTHERS.iter().any(|other| endpoint.starts_with(other)) {
            let problem = "something else is there, at the address that HTTP_ADDRESS has too";
            report.wrong("PROMETHEUS_ENDPOINT", &endpoint, problem, "write such as /metrics");
        }
    }
    Some(Prometheus { address, endpoint })
}

fn endpoint(text: &str, report: &mut Report) -> String {
    let text = text.trim();
    let problem = if !text.starts_with('/') {
        "it does not begin with a slash"
    } else if text.len() > LONGEST {
        "it is too long"
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte)) {
        "it has characters in it that no path has"
    } else {
        return text.to_owned();
    };
    report.wrong("PROMETHEUS_ENDPOINT", text, problem, "write such as /metrics");
    ENDPOINT.to_owned()
}
