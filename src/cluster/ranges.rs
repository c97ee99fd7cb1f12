//! Sets of shards as text: `0-20,45`.

use std::collections::BTreeSet;

use crate::discord::ids::ShardId;

/// More shards than any bot has; bounds what a text from outside makes us allocate.
pub const MOST_SHARDS: u32 = 65_536;

/// What is no set of shards.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part:?} is no shard and no range of shards below {MOST_SHARDS}")]
pub struct InvalidRange {
    part: String,
}

/// The shards in order, runs of two and more as ranges; no shard is the empty text.
pub fn to_text(shards: &BTreeSet<ShardId>) -> String {
    use std::fmt::Write;

    let mut text = String::new();
    let mut shards = shards.iter().map(|shard| shard.get()).peekable();
    while let Some(first) = shards.next() {
        let mut last = first;
        while let Some(next) = shards.next_if(|next| *next == last + 1) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        let written = match first == last {
            true => write!(text, "{comma}{first}"),
            false => write!(text, "{comma}{first}-{last}"),
        };
        written.expect("a text takes what is written");
    }
    text
}

/// Reads what [`to_text`] writes, in any order.
///
/// # Errors
/// Names the part that is no shard and no range.
pub fn from_text(text: &str) -> Result<BTreeSet<ShardId>, InvalidRange> {
    let mut shards = BTreeSet::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first.parse::<u32>().ok().zip(last.parse::<u32>().ok());
        let (first, last) = range
            .filter(|(first, last)| first <= last && *last < MOST_SHARDS)
            .ok_or_else(|| InvalidRange { part: part.chars().take(40).collect() })?;
        shards.extend((first..=last).map(ShardId::new));
    }
    Ok(shards)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shards(ids: &[u32]) -> BTreeSet<ShardId> {
        ids.iter().copied().map(ShardId::new).collect()
    }

    #[test]
    fn runs_are_ranges() {
        for (ids, text) in
            [(&[][..], ""), (&[7], "7"), (&[0, 1], "0-1"), (&[0, 1, 2, 45], "0-2,45"), (&[1, 3, 4, 9], "1,3-4,9")]
        {
            assert_eq!(to_text(&shards(ids)), text);
            assert_eq!(from_text(text), Ok(shards(ids)));
        }
    }

    #[test]
    fn what_is_no_range_is_named() {
        for part in ["x", "3-1", "-1", "1-", "0-65536", "4294967296", "1-2-3"] {
            assert_eq!(from_text(&format!("5,{part}")), Err(InvalidRange { part: part.to_owned() }));
        }
    }

    proptest! {
        #[test]
        fn every_set_reads_back(ids in prop::collection::btree_set(0..MOST_SHARDS, 0..200)) {
            let set: BTreeSet<ShardId> = ids.into_iter().map(ShardId::new).collect();
            prop_assert_eq!(from_text(&to_text(&set)), Ok(set));
        }
    }
}
