//! The arrows of spec/README.md hold: adapters know the core, the core knows no adapter; what is sans-I/O names no runtime, no
//! socket and no clock; `lapin` stays in `amqp/`.
//!
//! Reads the sources as text. Parts under `#[cfg(test)]` may name what they like.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Knows no adapter.
const CORE: [&str; 10] =
    ["broker", "clock", "cluster", "discord", "encoding", "ledger", "passwords", "secret", "session_store", "tls"];

/// Everything at the top that is no core, be it an adapter or above one.
const OUTSIDE: [&str; 15] = [
    "amqp",
    "amybot",
    "cli",
    "config",
    "forwarding",
    "http",
    "logging",
    "memory",
    "seen",
    "service",
    "simulator",
    "singyeong",
    "spectacles",
    "stdio",
    "websocket",
];

/// Take bytes, packets and `now`, and give back what is to be done.
const SANS_IO: [&str; 94] = [
    "amqp/address",
    "amqp/identify_gate/turn",
    "amqp/publisher/codec",
    "amqp/publisher/error",
    "amqp/publisher/handshake",
    "amqp/publisher/incoming",
    "amqp/publisher/outbox",
    "amybot/answer",
    "amybot/coordinator",
    "amybot/internal",
    "amybot/member",
    "amybot/message",
    "amybot/optics",
    "amybot/pool",
    "amybot/proxy",
    "amybot/server/close_code",
    "amybot/server/limits",
    "amybot/server/session",
    "broker",
    "cluster/agreement",
    "cluster/announcement",
    "cluster/change",
    "cluster/member",
    "cluster/node",
    "cluster/plan",
    "cluster/ranges",
    "discord/backoff",
    "discord/close_code",
    "discord/command",
    "discord/compression",
    "discord/envelope",
    "discord/events",
    "discord/gateway_url",
    "discord/identify_queue",
    "discord/ids",
    "discord/inflate",
    "discord/intents",
    "discord/lately",
    "discord/opcode",
    "discord/payload",
    "discord/rest_types",
    "discord/send_limit",
    "discord/session",
    "discord/websocket",
    "discord/wire",
    "encoding",
    "forwarding/json",
    "forwarding/rules",
    "forwarding/template",
    "http/metrics",
    "http/page/chart",
    "ledger",
    "passwords",
    "secret",
    "seen",
    "session_store",
    "simulator/compress",
    "simulator/config",
    "simulator/control",
    "simulator/limits",
    "simulator/payloads",
    "simulator/protocol",
    "simulator/received",
    "simulator/shards",
    "simulator/stats",
    "simulator/template",
    "simulator/terms",
    "simulator/traffic",
    "simulator/websocket",
    "simulator/world",
    "singyeong/client",
    "singyeong/close_code",
    "singyeong/command",
    "singyeong/ids",
    "singyeong/limits",
    "singyeong/metadata",
    "singyeong/outbound",
    "singyeong/packet",
    "singyeong/query",
    "singyeong/queues",
    "singyeong/registry",
    "singyeong/replica",
    "singyeong/router/envelope",
    "singyeong/router/origin",
    "singyeong/router/parcel",
    "singyeong/router/targets",
    "singyeong/session",
    "singyeong/waiting",
    "spectacles/demand",
    "spectacles/dialect",
    "spectacles/forward_id",
    "spectacles/route",
    "spectacles/tally",
    "websocket/frames",
];

/// Own sockets, tasks or files, or wait for them.
const DRIVERS: [&str; 40] = [
    "amqp/publisher/connection",
    "amqp/publisher/handle",
    "amqp/publisher/link",
    "amqp/publisher/transport",
    "amybot/bridge",
    "amybot/office",
    "amybot/post",
    "amybot/server",
    "amybot/teller",
    "cluster/fence",
    "discord/commands",
    "discord/connect",
    "discord/gateway",
    "discord/identify_gate",
    "discord/rest",
    "discord/shard",
    "discord/turnstile",
    "session_store/file",
    "session_store/memory",
    "simulator/connection",
    "simulator/server",
    "simulator/session",
    "singyeong/exchange",
    "singyeong/hub",
    "singyeong/lookup",
    "singyeong/news",
    "singyeong/outbound/aside",
    "singyeong/outbound/commands",
    "singyeong/outbound/driver",
    "singyeong/outbound/link",
    "singyeong/outbox",
    "singyeong/queues/driver",
    "singyeong/queues/publish",
    "singyeong/rest",
    "singyeong/router",
    "singyeong/server",
    "websocket/doors",
    "websocket/http",
    "websocket/server",
    "websocket/socket",
];

/// In these folders everything is either sans-I/O or a driver.
const SORTED: [&str; 8] =
    ["amqp/publisher", "amybot", "cluster", "discord", "session_store", "simulator", "singyeong", "websocket"];

#[test]
fn the_core_names_no_adapter() {
    let broken: Vec<String> =
        sources().iter().filter(|source| source.is_under(&CORE)).flat_map(names_outside).collect();
    assert_eq!(broken, [""; 0]);
}

#[test]
fn what_is_sans_io_names_no_runtime_no_socket_and_no_clock() {
    let sources = sources();
    let broken: Vec<String> = sources.iter().filter(|source| source.is_sans_io()).flat_map(names_io).collect();
    assert_eq!(broken, [""; 0]);
}

#[test]
fn lapin_stays_in_amqp() {
    let sources = sources();
    let broken: Vec<String> =
        sources.iter().filter(|source| !source.is_under(&["amqp"])).flat_map(names_lapin).collect();
    assert_eq!(broken, [""; 0]);
}

#[test]
fn every_module_is_sorted() {
    let sources = sources();
    let has = |module: &str| sources.iter().any(|source| source.is_under(&[module]));
    for module in CORE.iter().chain(&OUTSIDE).chain(&SANS_IO).chain(&DRIVERS) {
        assert!(has(module), "{module} is not there any more");
    }
    for source in &sources {
        let module = source.module();
        let top = module.split('/').next().expect("a name");
        assert!(
            ["lib", "main"].contains(&top) || CORE.contains(&top) || OUTSIDE.contains(&top),
            "{module}: say whether it is of the core"
        );
        let folder = SORTED.iter().any(|folder| module.starts_with(&format!("{folder}/")));
        assert!(
            !folder || source.is_under(&SANS_IO) || source.is_under(&DRIVERS),
            "{module}: say whether it is sans-I/O or a driver"
        );
    }
}

/// Each rule is broken once, in every way of writing it that there is; and what only looks like it is let pass.
#[test]
fn the_rules_can_be_broken() {
    let source = |module: &str, text: &str| Source { path: format!("{module}.rs"), code: code(text).0 };
    let text = r##"
        //! Not like crate::amqp, nor lapin::Channel.
        use crate::{broker::Broker, amqp::{Admin, publisher as lean}};
        use super::super::stdio::Output;
        /* crate::http */
        fn run(to: &crate::service::View, quote: char) -> &'static str {
            let _ = ('"', "crate::config", r#"crate::"spectacles"#, b"crate::cli", quote);
            r"crate::simulator"
        }
        #[cfg(test)]
        use crate::logging::init;
        #[cfg(test)]
        mod tests {
            use crate::simulator::Simulator;
            fn deep() { if true { crate::cli::run() } }
        }
        fn after() { crate::logging::init() }
    "##;
    let found = names_outside(&source("discord/session", text));
    let names = ["crate::amqp::Admin", "crate::amqp::publisher", "crate::stdio::Output", "crate::service::View"];
    assert_eq!(found, [&names[..], &["crate::logging::init"]].concat().in_file("discord/session"));

    let text = "
        use std::{net::TcpStream, time::{Duration, Instant, SystemTime}};
        async fn run<'a>(now: Instant, rng: fastrand::Rng) {
            tokio::select! { () = tokio_util::sync::wait() => {} }
            let (a, b, c) = (Instant::now(), crate::clock::unix_millis(), fastrand::u64(..));
        }
        #[cfg(test)]
        fn now() -> Instant { Instant::now() }
    ";
    let names = [
        "std::net::TcpStream",
        "std::time::SystemTime",
        "tokio::select",
        "tokio_util::sync::wait",
        "Instant::now",
        "crate::clock::unix_millis",
        "fastrand::u64",
    ];
    assert_eq!(names_io(&source("ledger", text)), names.in_file("ledger"));

    let text = "use lapin::{Channel, types}; fn is(channel: &amqp::lapin, of: lapin::Queue) {}";
    let names = ["lapin::Channel", "lapin::types", "lapin::Queue"];
    assert_eq!(names_lapin(&source("service", text)), names.in_file("service"));

    assert_eq!(
        code("mod real; #[cfg(test)] mod properties; #[cfg(test)] #[rustfmt::skip] mod tests;").1,
        ["properties", "tests"]
    );
}

// ---- the rules ----

fn names_outside(source: &Source) -> Vec<String> {
    source.named(|path| path[0] == "crate" && path.get(1).is_some_and(|name| OUTSIDE.contains(&&**name) || name == "*"))
}

fn names_io(source: &Source) -> Vec<String> {
    const CRATES: [&str; 7] = ["hyper", "hyper_util", "lapin", "mio", "rustls", "socket2", "tokio"];
    const STD: [&str; 5] = ["fs", "net", "os", "process", "thread"];
    source.named(|path| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match path[..] {
            // Addresses alone are plain data.
            ["std", "net", "IpAddr" | "Ipv4Addr" | "Ipv6Addr" | "SocketAddr", ..] => false,
            ["std", module, ..] if STD.contains(&module) => true,
            ["crate", "clock", ..] => true,
            // A random source is handed in; the global one makes no test repeat itself.
            ["fastrand", what, ..] => what != "Rng",
            [name, ..] if CRATES.contains(&name) || name.starts_with("tokio_") => true,
            _ => path.contains(&"SystemTime") || path.ends_with(&["Instant", "now"]),
        }
    })
}

fn names_lapin(source: &Source) -> Vec<String> {
    source.named(|path| path[0] == "lapin")
}

// ---- the sources ----

/// A file of `src/`, without comments, texts and tests.
struct Source {
    /// Below `src/`.
    path: String,
    code: Vec<Token>,
}

impl Source {
    /// `discord/session` for `discord/session/mod.rs`.
    fn module(&self) -> &str {
        let path = self.path.strip_suffix(".rs").expect("a source");
        path.strip_suffix("/mod").unwrap_or(path)
    }

    fn is_under(&self, modules: &[&str]) -> bool {
        modules.iter().any(|module| {
            self.module().strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// A driver may live in a sans-I/O module's folder.
    fn is_sans_io(&self) -> bool {
        self.is_under(&SANS_IO) && !self.is_under(&DRIVERS)
    }

    /// The paths named here that are `forbidden`, with the file's name.
    fn named(&self, forbidden: impl Fn(&[String]) -> bool) -> Vec<String> {
        let module: Vec<&str> = self.module().split('/').collect();
        let paths = paths(&self.code).into_iter().map(|path| absolute(path, &module));
        paths.filter(|path| forbidden(path)).map(|path| format!("{}: {}", self.path, path.join("::"))).collect()
    }
}

/// All files of `src/`, but those that are tests as a whole.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut sources, mut tests) = (Vec::new(), Vec::new(), BTreeSet::new());
    rust_files(&root, &mut files);
    for file in files {
        let text = fs::read_to_string(&file).expect("a source can be read");
        let path = file.strip_prefix(&root).expect("found there").to_str().expect("UTF-8").to_owned();
        let (code, test_modules) = code(&text);
        let source = Source { path, code };
        let folder = match source.module() {
            "lib" | "main" => String::new(),
            module => format!("{module}/"),
        };
        tests.extend(test_modules.iter().map(|name| format!("{folder}{name}")));
        sources.push(source);
    }
    assert!(sources.len() > 50, "the sources were not found");
    sources.retain(|source| !tests.iter().any(|test| source.is_under(&[test])));
    sources
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("a folder can be read");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

// ---- as much of Rust's syntax as the rules need ----

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    /// `::`
    Path,
    Other(char),
}

/// The tokens of a text without what is under `#[cfg(test)]`, and the modules that are so in files of their own.
fn code(text: &str) -> (Vec<Token>, Vec<String>) {
    let tokens = tokens(text);
    let test: Vec<Token> = self::tokens("#[cfg(test)]");
    let (mut code, mut test_modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        if !tokens[at..].starts_with(&test) {
            code.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += test.len();
        while tokens[at..].starts_with(&[Token::Other('#')]) {
            at = end_of_group(&tokens, at + 1);
        }
        if let [Token::Name(keyword), Token::Name(name), Token::Other(';'), ..] = &tokens[at..]
            && keyword == "mod"
        {
            test_modules.push(name.clone());
        }
        // An item ends at its semicolon or with its body.
        while at < tokens.len() {
            match tokens[at] {
                Token::Other('{') => {
                    let is_use_tree = tokens[at - 1] == Token::Path;
                    at = end_of_group(&tokens, at);
                    if !is_use_tree {
                        break;
                    }
                }
                Token::Other('(' | '[') => at = end_of_group(&tokens, at),
                Token::Other(';') => {
                    at += 1;
                    break;
                }
                _ => at += 1,
            }
        }
    }
    (code, test_modules)
}

/// Behind the bracket that closes the one at `open`.
fn end_of_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Other('(' | '[' | '{') => depth += 1,
            Token::Other(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            length
        } else if rest.starts_with("::") {
            tokens.push(Token::Path);
            2
        } else if first == '_' || first.is_alphanumeric() {
            let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
            tokens.push(Token::Name(rest[..length].to_owned()));
            length
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Other(first));
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the text, character or lifetime that `rest` begins with.
fn literal(rest: &str) -> Option<usize> {
    let prefix = rest.find(|c| !matches!(c, 'b' | 'c' | 'r')).filter(|length| *length <= 2)?;
    let raw = rest[..prefix].contains('r');
    let body = &rest[prefix..];
    let hashes = if raw { body.find(|c| c != '#')? } else { 0 };
    let body = &body[hashes..];
    if let Some(inside) = body.strip_prefix('"') {
        let begin = prefix + hashes + 1;
        if raw {
            let close = format!("\"{}", "#".repeat(hashes));
            return Some(begin + inside.find(&close).expect("a text ends") + close.len());
        }
        let mut escaped = false;
        let end = inside.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        return Some(begin + end.expect("a text ends") + 1);
    }
    let inside = body.strip_prefix('\'').filter(|_| !raw)?;
    let mut chars = inside.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        let (escape, _) = chars.next()?;
        return Some(prefix + 1 + escape + 1 + inside[escape + 1..].find('\'')? + 1);
    }
    match chars.next()? {
        (at, '\'') => Some(prefix + 1 + at + 1),
        // A lifetime: its tick alone, the name is harmless.
        _ => Some(prefix + 1),
    }
}

/// The paths of more than one name, those of `use` trees taken apart.
fn paths(code: &[Token]) -> Vec<Vec<String>> {
    let (mut paths, mut at) = (Vec::new(), 0);
    while at < code.len() {
        match &code[at] {
            Token::Name(name) if name == "use" => at = tree(code, at + 1, &[], &mut paths),
            Token::Name(_) => {
                let (path, end) = path(code, at);
                if path.len() > 1 {
                    paths.push(path);
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    paths
}

/// Names joined by `::`, and where they end.
fn path(code: &[Token], mut at: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    while let Some(Token::Name(name)) = code.get(at) {
        path.push(name.clone());
        at += 1;
        if code.get(at) != Some(&Token::Path) || !matches!(code.get(at + 1), Some(Token::Name(_))) {
            break;
        }
        at += 1;
    }
    (path, at)
}

/// Takes a `use` tree apart; gives where it ends.
fn tree(code: &[Token], at: usize, before: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let at = if code.get(at) == Some(&Token::Path) { at + 1 } else { at };
    let (names, mut at) = path(code, at);
    let whole = [before, &names].concat();
    match (code.get(at), code.get(at + 1)) {
        (Some(Token::Path), Some(Token::Other('{'))) => {
            at += 2;
            while let Some(token) = code.get(at) {
                match token {
                    Token::Other('}') => return at + 1,
                    Token::Name(_) => at = tree(code, at, &whole, paths),
                    _ => at += 1,
                }
            }
        }
        (Some(Token::Path), Some(Token::Other('*'))) => {
            paths.push([&whole[..], &["*".to_owned()]].concat());
            at += 2;
        }
        (Some(Token::Name(keyword)), Some(Token::Name(_))) if keyword == "as" => {
            paths.push(whole);
            at += 2;
        }
        _ if !whole.is_empty() => paths.push(whole),
        _ => {}
    }
    at
}

/// The path from the crate's root, for `self` and `super`, too.
fn absolute(path: Vec<String>, module: &[&str]) -> Vec<String> {
    let mut here: Vec<String> = std::iter::once("crate").chain(module.iter().copied()).map(str::to_owned).collect();
    let mut rest = &path[..];
    match rest.first().map(String::as_str) {
        Some("optic") => return [&["crate".to_owned()], &rest[1..]].concat(),
        Some("self" | "super") => {}
        _ => return path,
    }
    while let Some(first) = rest.first() {
        match first.as_str() {
            "self" => {}
            "super" => drop(here.pop()),
            _ => break,
        }
        rest = &rest[1..];
    }
    [&here[..], rest].concat()
}

/// Names as the rules tell them, for the test of the rules.
trait InFile {
    fn in_file(self, module: &str) -> Vec<String>;
}

impl<'a, T: IntoIterator<Item = &'a str>> InFile for T {
    fn in_file(self, module: &str) -> Vec<String> {
        self.into_iter().map(|name| format!("{module}.rs: {name}")).collect()
    }
}
