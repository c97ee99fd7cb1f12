//! Small values that several variables share: lists, yes or no, numbers, durations.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::report::Report;

/// The parts of a list that is separated by commas or white space.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty())
}

/// A number within `range`, or `None` and a mistake.
pub(super) fn number<T>(variable: &str, text: &str, range: RangeInclusive<T>, report: &mut Report) -> Option<T>
where
    T: FromStr + PartialOrd + Display,
{
    let found = text.trim().parse().ok().filter(|number| range.contains(number));
    if found.is_none() {
        let (least, most) = range.into_inner();
        report.wrong(variable, text, "not a number that it can have", format!("write one from {least} to {most}"));
    }
    found
}

/// One of a few words, letter case aside, or `None` and a mistake.
pub(super) fn word<T: Copy>(variable: &str, text: &str, words: &[(&str, T)], report: &mut Report) -> Option<T> {
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
    if found.is_none() {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        report.wrong(variable, text, "not known", format!("write {}", words.join(" or ")));
    }
    found.map(|(_, value)| *value)
}

/// Yes or no, in the usual spellings.
pub(super) fn yes_or_no(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A size in bytes, `65536`, `64k`, `4m`, within `range`, or `None` and a mistake.
pub(super) fn bytes(variable: &str, text: &str, range: RangeInclusive<usize>, report: &mut Report) -> Option<usize> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
    let units = [("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30)];
    let (digits, unit) =
        units.iter().find_map(|(name, unit)| Some((lower.strip_suffix(name)?, *unit))).unwrap_or((lower, 1));
    let found = digits.trim().parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    let found = found.filter(|size| range.contains(size));
    if found.is_none() {
        let remedy = format!("write one from {} to {}, such as 65536, 64k or 4m", range.start(), range.end());
        report.wrong(variable, text, "not a number of bytes that it can have", remedy);
    }
    found
}

/// An address to listen on, or `None` and a mistake. `:8080` is every address, as in Go's programs.
pub(super) fn address(variable: &str, text: &str, report: &mut Report) -> Option<SocketAddr> {
    let text = text.trim();
    let full = match text.rsplit_once(':') {
        Some(("", port)) => format!("0.0.0.0:{port}"),
        Some((host, port)) if host.eq_ignore_ascii_case("localhost") => format!("127.0.0.1:{port}"),
        _ => text.to_owned(),
    };
    let address = full.parse().ok();
    if address.is_none() {
        let (problem, remedy) = wrong_address(text);
        report.wrong(variable, text, problem, remedy);
    }
    address
}

/// What is wrong with an address that is none, and what to write instead.
fn wrong_address(text: &str) -> (String, String) {
    const FORM: &str = "write such as 127.0.0.1:8080, 0.0.0.0:8080 or off";
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some((_, bare)) = text.split_once("://") {
        let bare = bare.split('/').next().unwrap_or_default();
        let meant = Some(bare).filter(|bare| bare.parse::<SocketAddr>().is_ok()).unwrap_or("127.0.0.1:8080");
        return ("it is a URL, and what is wanted is where to listen".to_owned(), format!("write {meant}"));
    }
    if is_port(text) {
        let remedy = format!("write 127.0.0.1:{text} for this machine alone, or 0.0.0.0:{text} for everybody");
        return ("it is a port without an IP address".to_owned(), remedy);
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return ("it has no port".to_owned(), format!("write {}", SocketAddr::new(ip, 8080)));
    }
    match text.rsplit_once(':') {
        Some((_, port)) if digits(port) && !is_port(port) => {
            (format!("{port} is no port"), "write one up to 65535".to_owned())
        }
        Some((host, port)) if is_port(port) && !host.contains(':') => {
            let remedy = format!("write 0.0.0.0:{port} for every address of this machine, or one of them");
            (format!("{host:?} is a name, and no IP address"), remedy)
        }
        _ => ("not an IP address with a port".to_owned(), FORM.to_owned()),
    }
}

/// Whether who listens at one of these takes the other's place. Port 0 is any that is free.
pub(super) fn is_same_place(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (everywhere || one.ip() == other.ip())
}

/// A duration as Go writes it, `1h30m`, `2m`, `1.5s`, `500ms`, or a bare number of milliseconds.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(milliseconds) = text.parse() {
        return Some(Duration::from_millis(milliseconds));
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[number..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |n| number + n);
        let seconds = match &rest[number..unit] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(rest[..number].parse::<f64>().ok()? * seconds).ok()?;
        sum = sum.checked_add(part)?;
        rest = &rest[unit..];
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, milliseconds) in [
            ("2m", 120_000),
            ("30s", 30_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("250", 250),
            (" 1d ", 86_400_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "m", "2 minutes", "2x", "-1s", "1s2", "1e400h", "99999999999999999999h", "1..2s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_have_units_and_a_range() {
        let read = |text| bytes("X", text, 1..=usize::MAX, &mut Report::default());
        for (text, size) in [("1", 1), ("64k", 65_536), ("4 M", 4 << 20), ("1GiB", 1 << 30), (" 2kb ", 2048)] {
            assert_eq!(read(text), Some(size), "{text}");
        }
        for text in ["", "k", "-1", "1.5m", "1t", "99999999999999999999", "99999999999g", "0"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn lists_are_split_at_commas_and_white_space() {
        assert_eq!(list(" A,B  C,\n,D ").collect::<Vec<_>>(), ["A", "B", "C", "D"]);
        assert_eq!(list(" , ").count(), 0);
    }
}
