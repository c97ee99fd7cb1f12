//! The known name that a mistyped one was meant to be.

/// The nearest of `known`, if it is near enough to be meant. Letter case does not count.
pub(super) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_ascii_uppercase();
    known
        .into_iter()
        .map(|name| (distance(given.as_bytes(), name.to_ascii_uppercase().as_bytes()), name))
        .filter(|(distance, name)| *distance <= tolerance(name))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// ` (did you mean X?)`, or nothing.
pub(super) fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

/// How many slips still mean `name`: short names differ by little from each other.
fn tolerance(name: &str) -> usize {
    (name.len() / 5).clamp(1, 3)
}

/// Insertions, deletions, replacements and swaps of neighbours that make `a` into `b`.
fn distance(a: &[u8], b: &[u8]) -> usize {
    // Rows of the usual table, and the one before for swaps.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_swaps_are_counted() {
        for (a, b, expected) in
            [("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("abc", "acb", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_finds_none() {
        let known = ["DISCORD_TOKEN", "DISCORD_EVENTS", "GUILDS"];
        assert_eq!(nearest("DISCORD_TOEKN", known), Some("DISCORD_TOKEN"));
        assert_eq!(nearest("discord_events", known), Some("DISCORD_EVENTS"));
        assert_eq!(nearest("GUILD", known), Some("GUILDS"));
        assert_eq!(nearest("DISCORD_CLIENT_ID", known), None);
        assert_eq!(nearest("G", known), None);
    }
}
