//! spec/README.md, "The arrows": who may know whom, read off the sources.

use std::path::{Path, PathBuf};

/// A source file: its path below `src/`, and its code without comments and tests.
struct Source {
    path: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).expect("text");
                let path = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
                found.push(Source { path, code: code(&text) });
            }
        }
    }
    let of_tests: Vec<String> = found.iter().flat_map(modules_of_tests).collect();
    found.retain(|source| !of_tests.iter().any(|module| source.path.starts_with(module.as_str())));
    assert!(found.len() > 50, "the sources are not where this test looks");
    found
}

/// Where the files of `#[cfg(test)] mod name;` are: `folder/name.` or `folder/name/`.
fn modules_of_tests(source: &Source) -> Vec<String> {
    let folder = match source.path.strip_suffix("/mod.rs") {
        Some(folder) => folder.to_owned(),
        None => source.path.trim_end_matches(".rs").to_owned(),
    };
    let declared = source.code.split("#[cfg(test)]\nmod ").skip(1).filter_map(|rest| rest.split_once([';', ' ']));
    declared.flat_map(|(name, _)| [format!("{folder}/{name}."), format!("{folder}/{name}/")]).collect()
}

/// What is compiled into the program: tests may know everybody.
fn code(text: &str) -> String {
    let program = text.split("#[cfg(test)]\nmod tests {").next().expect("split gives one part at least");
    program.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// The places where a file of these names one of those, as `path: word`.
fn trespasses(here: impl Fn(&str) -> bool, words: &[&str]) -> Vec<String> {
    let sources = sources();
    let mut looked_at = sources.iter().filter(|source| here(&source.path)).peekable();
    assert!(looked_at.peek().is_some(), "no source is looked at");
    looked_at
        .flat_map(|source| {
            let named = words.iter().filter(|word| source.code.contains(**word));
            named.map(|word| format!("{}: {word}", source.path))
        })
        .collect()
}

fn is_core(path: &str) -> bool {
    path.starts_with("discord/")
        || path.starts_with("session_store/")
        || ["ledger.rs", "broker.rs", "session_store.rs"].contains(&path)
}

/// The machines without a socket, a clock and a broker's library.
const SANS_IO: &[&str] = &[
    "ledger.rs",
    "discord/session/",
    "discord/backoff.rs",
    "discord/close_code.rs",
    "discord/command.rs",
    "discord/envelope.rs",
    "discord/events.rs",
    "discord/identify_queue.rs",
    "discord/ids.rs",
    "discord/inflate.rs",
    "discord/intents.rs",
    "discord/opcode.rs",
    "discord/payload.rs",
    "discord/send_limit.rs",
    "discord/websocket.rs",
    "amqp/publisher/codec/",
    "amqp/publisher/outbox/",
    "spectacles/demand.rs",
    "config/",
];

#[test]
fn the_core_knows_no_adapter() {
    let adapters =
        ["crate::amqp", "crate::spectacles", "crate::stdio", "crate::http", "crate::config", "crate::service"];
    assert_eq!(trespasses(is_core, &adapters), Vec::<String>::new());
}

#[test]
fn what_is_sans_io_touches_no_socket_and_reads_no_clock() {
    for place in SANS_IO {
        let io = ["tokio", "lapin", "hyper", "std::net::Tcp", "Instant::now", "SystemTime::now"];
        assert_eq!(trespasses(|path| path.starts_with(place), &io), Vec::<String>::new());
    }
}

#[test]
fn lapin_stays_in_amqp() {
    assert_eq!(trespasses(|path| !path.starts_with("amqp/"), &["lapin::", "use lapin"]), Vec::<String>::new());
}

#[test]
fn the_simulator_knows_neither_client_nor_broker_nor_configuration() {
    let others = [
        "crate::amqp",
        "crate::broker",
        "crate::config",
        "crate::spectacles",
        "crate::service",
        "crate::ledger",
        "discord::session",
        "discord::shard",
        "discord::connect",
        "discord::websocket",
    ];
    assert_eq!(trespasses(|path| path.starts_with("simulator/"), &others), Vec::<String>::new());
}

#[test]
fn the_library_knows_no_command_line() {
    let library = |path: &str| !path.starts_with("cli/") && path != "main.rs";
    assert_eq!(trespasses(library, &["clap", "anyhow", "crate::cli"]), Vec::<String>::new());
}
