//! What the documents say, held against what there is: links lead somewhere, variables exist, and every text that
//! docs/troubleshooting.md explains is one that the program says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use optic::config::{PREFIXES, VARIABLES};

/// Routing keys and operations that look like variables.
const NO_VARIABLES: [&str; 5] =
    ["SINGYEONG_SEND", "SINGYEONG_BROADCAST", "SHARD_CONNECT", "SHARD_ACCEPT", "SHARD_DEATH"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `folder` with this ending, in order; none where the folder is not there.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let foreign =
                path.file_name().is_some_and(|name| name == "node_modules" || name == "target" || name == ".venv");
            found.extend((!foreign).then(|| files(&path, ending)).into_iter().flatten());
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every document, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join("README.md")];
    for folder in ["docs", "spec", "examples", "deploy"] {
        paths.extend(files(&root().join(folder), "md"));
    }
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// The text without what is in fences.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The anchors that GitHub gives a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    let slug = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}

/// What is linked from a document: the target of each `](…)`.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let parts = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    parts.map(|(target, _)| target.to_owned()).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_of_it() {
    let mut broken = Vec::new();
    for (path, text) in documents() {
        for link in links(&text).iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(file, at)| (file, Some(at)));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name("").join(file) };
            let there = target.exists() && anchor.is_none_or(|anchor| anchors(&read(&target)).contains(anchor));
            if !there {
                broken.push(format!("{}: {link}", path.strip_prefix(root()).expect("inside").display()));
            }
        }
    }
    assert_eq!(broken, [""; 0], "links that lead nowhere");
}

#[test]
fn every_page_of_docs_is_linked_from_the_readme() {
    let readme = links(&read(&root().join("README.md")));
    let linked: BTreeSet<&str> = readme.iter().map(|link| link.split('#').next().unwrap_or_default()).collect();
    for page in files(&root().join("docs"), "md") {
        let name = format!("docs/{}", page.file_name().and_then(|name| name.to_str()).expect("a name"));
        assert!(linked.contains(name.as_str()), "{name} is not linked from README.md");
    }
}

/// The first cells of the tables of a text, without their backticks; several names in one cell are several.
fn first_cells(text: &str) -> BTreeSet<String> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(spans).collect()
}

/// What stands in backticks.
fn spans(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The names that look like variables of ours: in backticks, alone or before `=`, and set in fenced blocks.
fn named(text: &str) -> BTreeSet<String> {
    let set = |word: &str| {
        let name = word.trim_start_matches('#').split('=').next().unwrap_or_default().trim_end_matches(',').to_owned();
        let form = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let ours = PREFIXES.iter().any(|prefix| name.starts_with(prefix) && name.len() > prefix.len() - 1);
        (form && ours && !name.ends_with('_')).then_some(name)
    };
    let prose = prose(text);
    let in_backticks = prose.lines().flat_map(spans).collect::<Vec<_>>();
    let alone = in_backticks.iter().flat_map(|span| span.split_whitespace()).filter_map(set);
    let assigned = text.split_whitespace().filter(|word| word.contains('=')).filter_map(set);
    alone.chain(assigned).collect()
}

/// The names in a program.
fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect()
}

#[test]
fn every_variable_that_a_document_names_exists_or_is_said_to_be_another_projects() {
    let mut known: BTreeSet<String> = VARIABLES.iter().map(|variable| variable.name.to_owned()).collect();
    known.extend(VARIABLES.iter().filter(|variable| variable.secret).map(|secret| format!("{}_FILE", secret.name)));
    let foreign = first_cells(&read(&root().join("docs/migrating.md")));
    let compose = read(&root().join("docker-compose.yml"));
    // What the examples' workers read for themselves.
    let workers: String = ["py", "js", "rs"]
        .iter()
        .flat_map(|ending| files(&root().join("examples"), ending))
        .map(|path| read(&path))
        .collect();
    for (path, text) in documents() {
        let unknown: Vec<String> = named(&text)
            .into_iter()
            .filter(|name| !known.contains(name) && !foreign.contains(name) && !NO_VARIABLES.contains(&name.as_str()))
            .filter(|name| !compose.contains(&format!("${{{name}")) && !words(&workers).contains(name.as_str()))
            .collect();
        assert_eq!(unknown, [""; 0], "{} names variables that do not exist", path.display());
    }
    // What is said to be the same here has to be here.
    let page = read(&root().join("docs/migrating.md"));
    let same = page.lines().filter(|line| line.starts_with("| `") && line.contains("` | same"));
    let same: BTreeSet<String> = same.flat_map(first_cells).collect();
    assert!(same.len() > 10, "{same:?}");
    assert_eq!(
        same.difference(&known).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "said to be the same, and not there"
    );
}

/// The texts in double quotes of a Rust source, as they are printed, with `…` in the place of what is filled in.
fn texts(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    let mut chars = source.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => while chars.next().is_some_and(|c| c != '\n') {},
            // A sign of its own, '"' or '\''; a lifetime has no quote behind it.
            '\'' => {
                let mut ahead = chars.clone();
                match (ahead.next(), ahead.next()) {
                    (Some('\\'), Some(_)) => while chars.next().is_some_and(|c| c != '\'') {},
                    (Some(_), Some('\'')) => drop((chars.next(), chars.next())),
                    _ => {}
                }
            }
            '"' if before == 'r' => found.push(filled(&chars.by_ref().take_while(|c| *c != '"').collect::<String>())),
            '#' if before == 'r' && chars.peek() == Some(&'"') => {
                chars.next();
                let mut raw = String::new();
                while !raw.ends_with("\"#") {
                    let Some(c) = chars.next() else { break };
                    raw.push(c);
                }
                found.push(filled(raw.trim_end_matches("\"#")));
            }
            '"' => found.push(filled(&unescaped(&mut chars))),
            _ => {}
        }
        before = c;
    }
    found
}

/// Up to the closing quote.
fn unescaped(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => break,
            },
            c => text.push(c),
        }
    }
    text
}

/// `{…}` becomes `…`, `{{` becomes `{`.
fn filled(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' | '}' if chars.peek() == Some(&c) => {
                chars.next();
                out.push(c);
            }
            '{' => {
                while chars.next().is_some_and(|c| c != '}') {}
                out.push('…');
            }
            c => out.push(c),
        }
    }
    out
}

/// Whether `said` has the parts of `quoted` between its `…`, in order.
fn says(said: &str, quoted: &str) -> bool {
    let mut rest = said;
    quoted.split('…').map(str::trim).filter(|part| !part.is_empty()).all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[test]
fn every_text_that_is_explained_is_one_that_optic_says() {
    let sources = files(&root().join("src"), "rs").into_iter().filter(|path| !path.ends_with("tests.rs"));
    let sources = sources.filter(|path| path.components().all(|part| part.as_os_str() != "tests"));
    let said: Vec<String> = sources.flat_map(|path| texts(&read(&path))).collect();
    let page = read(&root().join("docs/troubleshooting.md"));
    let headings: Vec<&str> = page.lines().filter(|line| line.starts_with("### ")).collect();
    let quoted: Vec<String> = headings.iter().flat_map(|heading| spans(heading)).collect();
    assert!(headings.iter().all(|heading| heading.contains('`')), "a heading without a text");
    assert!(quoted.len() >= 60, "{}", quoted.len());
    let parts = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
    let unheard: Vec<&String> =
        quoted.iter().filter(|text| parts(text) < 6 || !said.iter().any(|said| says(said, text))).collect();
    assert_eq!(unheard, Vec::<&String>::new(), "docs/troubleshooting.md explains what Optic does not say");
}

#[test]
fn the_readers_of_these_tests_read_as_they_should() {
    let source = r##"
        // "a comment"
        error!("one {} \"two\" \
                three {name:?}", '"', b'\'', r"raw", r#"a "quoted" {{x}}"#);
        fn f<'a>(x: &'a str) -> &'a str { "last" }
        #[cfg(test)]
mod tests { "no more" }"##;
    assert_eq!(texts(source), ["one … \"two\" three …", "raw", "a \"quoted\" {x}", "last"]);
    assert!(says("RabbitMQ refused to … it: …", "RabbitMQ refused to … it"));
    assert!(!says("RabbitMQ refused to …", "it … RabbitMQ"));
    assert_eq!(links("[a](b.md#c) `x` ![p](q.png)\n```\n[no](no.md)\n```"), ["b.md#c", "q.png"]);
    assert_eq!(anchors("# A, \"b\" & c\n## 신경: x_y"), ["a-b--c", "신경-x_y"].map(str::to_owned).into());
    let text = "`AMQP_URL` and `HTTP_PROXY=x`, AMQP_NO\n```sh\nDISCORD_TOKEN=… optic\n```";
    assert_eq!(named(text), ["AMQP_URL", "DISCORD_TOKEN", "HTTP_PROXY"].map(str::to_owned).into());
}
