//! Events' names as small numbers, the same in the whole process: so a shard counts them in a table without a single name in it.
//!
//! The names that Discord documents have their numbers from the start. The first few others get one as they come; all names
//! beyond those share the last number, so that odd names grow nothing.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use crate::discord::events;

/// How many names that are not documented are counted each for itself.
const MOST_UNKNOWN: usize = 64;

/// How many numbers there are.
pub const COUNT: usize = events::ALL.len() + MOST_UNKNOWN + 1;

/// The last number, and what it is called.
const OTHER: usize = COUNT - 1;
const OTHER_NAME: &str = "other";

/// An event's name as a number below [`COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(u8);

const _: () = assert!(COUNT <= 256, "a number is a byte");

/// Free places of [`Names::places`].
const FREE: u8 = u8::MAX;
const PLACES: usize = 256;
const _: () = assert!(events::ALL.len() < FREE as usize, "a documented name fits");

struct Names {
    /// Numbers of documented names, by hash; a name whose place is taken has the next free one.
    places: [u8; PLACES],
    documented: Vec<Arc<str>>,
    unknown: Mutex<Vec<Arc<str>>>,
    other: Arc<str>,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let mut places = [FREE; PLACES];
    for (number, event) in events::ALL.iter().enumerate() {
        let mut place = hash(event.name);
        while places[place] != FREE {
            place = (place + 1) % PLACES;
        }
        places[place] = u8::try_from(number).expect("asserted above");
    }
    let documented = events::ALL.iter().map(|event| event.name.into()).collect();
    Names { places, documented, unknown: Mutex::default(), other: OTHER_NAME.into() }
});

impl NameId {
    /// The number of a name. For each event: a documented name costs a few compares, and takes no lock.
    pub fn of(name: &str) -> Self {
        let names = &*NAMES;
        let mut place = hash(name);
        loop {
            match names.places[place] {
                FREE => return Self::of_unknown(name),
                number if events::ALL[usize::from(number)].name == name => return Self(number),
                _ => place = (place + 1) % PLACES,
            }
        }
    }

    #[cold]
    fn of_unknown(name: &str) -> Self {
        let mut unknown = NAMES.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let known = unknown.iter().position(|other| **other == *name);
        let number = match known {
            Some(at) => events::ALL.len() + at,
            None if unknown.len() < MOST_UNKNOWN => {
                unknown.push(name.into());
                events::ALL.len() + unknown.len() - 1
            }
            None => OTHER,
        };
        Self(u8::try_from(number).expect("asserted above"))
    }

    /// All numbers, whether they have a name yet or not.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::try_from(OTHER).expect("asserted above")).map(Self)
    }

    /// The number itself.
    pub fn index(self) -> usize {
        self.0.into()
    }

    /// The name.
    pub fn name(self) -> Arc<str> {
        let names = &*NAMES;
        if let Some(name) = names.documented.get(self.index()) {
            return name.clone();
        }
        let unknown = names.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.get(self.index() - events::ALL.len()).unwrap_or(&names.other).clone()
    }
}

/// Names have long beginnings in common, and many have the same length: both ends are looked at.
fn hash(name: &str) -> usize {
    let bytes = name.as_bytes();
    let word = |chunk: Option<&[u8; 8]>| chunk.map_or(0, |chunk| u64::from_le_bytes(*chunk));
    let (first, last) = (word(bytes.first_chunk()), word(bytes.last_chunk()));
    let mixed = (first ^ last.rotate_left(29) ^ bytes.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 56) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_name_has_a_number_of_its_own() {
        for (number, event) in events::ALL.iter().enumerate() {
            let id = NameId::of(event.name);
            assert_eq!((id.index(), &*id.name()), (number, event.name));
        }
    }

    #[test]
    fn of_unknown_names_the_first_have_their_own_numbers_and_the_rest_share_one() {
        // Other tests of this process may have had names of their own counted.
        let ids: Vec<NameId> = (0..2 * MOST_UNKNOWN).map(|n| NameId::of(&format!("NEVER_{n}"))).collect();
        let other = ids[2 * MOST_UNKNOWN - 1];
        assert_eq!((other.index(), &*other.name()), (OTHER, OTHER_NAME));
        assert_eq!(&*ids[0].name(), "NEVER_0");
        assert_eq!(NameId::of("NEVER_0"), ids[0]);
        assert_eq!(NameId::of(""), NameId::of(""));
        let own = ids.iter().filter(|id| **id != other).count();
        assert!(own <= MOST_UNKNOWN && ids[..own].iter().all(|id| *id != other));
    }
}
