//! spec/configuration.md and .env.example, held against the table of variables.

use std::collections::BTreeSet;

use super::*;

#[test]
fn the_documentation_has_every_variable_with_its_default_and_meaning() {
    let spec = include_str!("../../../spec/configuration.md");
    let rows: Vec<&str> =
        spec.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 2).collect();
    let expected: Vec<String> = VARIABLES
        .iter()
        .map(|Variable { name, default, meaning, .. }| format!("| `{name}` | {default} | {meaning} |"))
        .collect();
    assert_eq!(rows, expected, "spec/configuration.md, \"Variables\"");
}

#[test]
fn the_example_has_every_variable_and_is_a_good_configuration() {
    let example = include_str!("../../../.env.example");
    let all = example.lines().map(|line| line.strip_prefix("#").unwrap_or(line)).filter(|line| !line.starts_with(' '));
    let pairs = env_file::parse(&all.collect::<Vec<_>>().join("\n")).expect("pairs");
    let named: BTreeSet<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    let missing: Vec<&str> =
        VARIABLES.iter().map(|variable| variable.name).filter(|name| !named.contains(name)).collect();
    assert_eq!(missing, [""; 0], "not in .env.example");
    let known: BTreeSet<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    assert_eq!(named.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "unknown in .env.example");
    // As it stands, once the token is filled in.
    let mut set = env_file::parse(example).expect("pairs");
    set.iter_mut().filter(|(name, _)| name == "DISCORD_TOKEN").for_each(|(_, text)| *text = TOKEN.1.to_owned());
    let (_, warnings) = Config::from_vars(set, files).expect("a good configuration");
    assert_eq!(warnings, []);
    // With every line in, each can be what it is shown to be; only what excludes another is left out.
    let sets: [&[&str]; 3] = [
        &["CLUSTER_MODE", "CLUSTER_ID", "CLUSTER_COUNT", "CLUSTER_SHARDS"],
        &["CLUSTER_MODE", "DISCORD_SHARD_COUNT", "DISCORD_SHARD_IDS"],
        &["DISCORD_SHARD_IDS", "CLUSTER_ID", "CLUSTER_COUNT", "CLUSTER_SHARDS"],
    ];
    for left_out in sets {
        let each = pairs.iter().filter(|(name, _)| !left_out.contains(&name.as_str()) && name != "DISCORD_TOKEN");
        let every = each.cloned().chain([(TOKEN.0.to_owned(), TOKEN.1.to_owned())]);
        Config::from_vars(every, files).expect("every line of .env.example is good");
    }
}
