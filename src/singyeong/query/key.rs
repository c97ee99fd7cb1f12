//! Which of several clients a key belongs to, by rendezvous hashing: every client has a weight for every key, and the greatest
//! has the key. So a client that goes leaves only its own keys to others, and all processes of all times choose the same one.
//!
//! The hash is fixed for ever: processes of different versions route the same keys.

use crate::encoding::Value;

/// A hash of a client's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHash(u64);

/// A hash of a query's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(u64);

impl ClientHash {
    /// Of a client's id.
    pub fn of(client: &str) -> Self {
        let mut hasher = Hasher(1);
        hasher.bytes(client.as_bytes());
        Self(hasher.0)
    }

    /// How much the client wants a key.
    pub fn weight(self, key: KeyHash) -> u64 {
        mix(self.0 ^ key.0)
    }
}

impl KeyHash {
    /// Of any value.
    pub fn of(key: &Value) -> Self {
        let mut hasher = Hasher(2);
        hasher.value(key);
        Self(hasher.0)
    }
}

struct Hasher(u64);

impl Hasher {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.word(0),
            Value::Bool(is) => self.word(1 + u64::from(*is)),
            Value::Integer(number) => {
                self.word(3);
                self.word(number.cast_unsigned());
            }
            Value::Big(number) => {
                self.word(4 + u64::from(number.negative));
                self.bytes(&number.magnitude);
            }
            Value::Float(number) => {
                self.word(6);
                self.word(number.to_bits());
            }
            Value::String(text) => {
                self.word(7);
                self.bytes(text.as_bytes());
            }
            Value::Bytes(bytes) => {
                self.word(8);
                self.bytes(bytes);
            }
            Value::List(values) => {
                self.word(9);
                self.word(values.len() as u64);
                values.iter().for_each(|value| self.value(value));
            }
            Value::Map(map) => {
                self.word(10);
                self.word(map.len() as u64);
                for (key, value) in map.iter() {
                    self.bytes(key.as_bytes());
                    self.value(value);
                }
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
        self.word(bytes.len() as u64);
    }

    fn word(&mut self, word: u64) {
        self.0 = mix(self.0.rotate_left(23) ^ word);
    }
}

/// SplitMix64's step: every bit of the input turns half of those of the output, and no two inputs have one output.
const fn mix(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}
