//! Integers beyond 64 bits: from decimal digits and back, and from bytes. Nobody computes with them.

use std::fmt;

use super::value::{BigInteger, Value};

/// Integers of more decimal digits than this are refused: reading and writing them takes time by the square.
pub const MOST_DIGITS: usize = 1024;

/// The bytes of the largest magnitude of [`MOST_DIGITS`] digits.
const MOST_BYTES: usize = 426;

/// So many digits are one step of the arithmetic, and their base.
const STEP: usize = 9;
const BASE: u64 = 1_000_000_000;

impl BigInteger {
    /// The integer of this sign and these base-256 digits, the lowest first; a [`Value::Integer`] if it fits.
    pub fn value(negative: bool, magnitude: &[u8]) -> Value {
        let length = magnitude.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        let magnitude = &magnitude[..length];
        if length <= 8 {
            let mut bytes = [0; 8];
            bytes[..length].copy_from_slice(magnitude);
            let absolute = i128::from(u64::from_le_bytes(bytes));
            if let Ok(integer) = i64::try_from(if negative { -absolute } else { absolute }) {
                return Value::Integer(integer);
            }
        }
        Value::Big(Box::new(Self { negative, magnitude: magnitude.into() }))
    }

    /// The integer of this sign and these decimal digits; a [`Value::Integer`] if it fits.
    ///
    /// # Panics
    /// If one is no digit.
    pub(super) fn of_digits(negative: bool, digits: &[u8]) -> Value {
        let (first, rest) = digits.split_at(digits.len() % STEP);
        let mut limbs: Vec<u32> = Vec::with_capacity(digits.len() / STEP + 1);
        for chunk in std::iter::once(first).chain(rest.chunks_exact(STEP)) {
            let mut carry = chunk.iter().fold(0, |number, digit| {
                assert!(digit.is_ascii_digit(), "only digits come here");
                number * 10 + u64::from(digit - b'0')
            });
            for limb in &mut limbs {
                let sum = u64::from(*limb) * BASE + carry;
                *limb = sum as u32;
                carry = sum >> 32;
            }
            if carry > 0 {
                limbs.push(carry as u32);
            }
        }
        let magnitude: Vec<u8> = limbs.into_iter().flat_map(u32::to_le_bytes).collect();
        Self::value(negative, &magnitude)
    }

    /// As [`value`](Self::value), but none of more than [`MOST_DIGITS`] decimal digits.
    pub(super) fn bounded(negative: bool, magnitude: &[u8]) -> Option<Value> {
        if magnitude.len() > MOST_BYTES {
            return None;
        }
        Some(Self::value(negative, magnitude)).filter(|value| match value {
            Value::Big(big) if big.magnitude.len() == MOST_BYTES => {
                big.to_string().len() <= MOST_DIGITS + usize::from(negative)
            }
            _ => true,
        })
    }

    /// As a `u64`, if it fits.
    pub fn as_u64(&self) -> Option<u64> {
        let bytes = self.magnitude[..].try_into().ok()?;
        (!self.negative).then(|| u64::from_le_bytes(bytes))
    }
}

/// In decimal.
impl fmt::Display for BigInteger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut limbs: Vec<u32> = self.magnitude.chunks(4).map(limb).collect();
        let mut steps = Vec::new();
        while !limbs.is_empty() {
            let mut rest = 0;
            for limb in limbs.iter_mut().rev() {
                let left = rest << 32 | u64::from(*limb);
                *limb = (left / BASE) as u32;
                rest = left % BASE;
            }
            while limbs.last() == Some(&0) {
                limbs.pop();
            }
            steps.push(rest);
        }
        if self.negative {
            f.write_str("-")?;
        }
        write!(f, "{}", steps.pop().unwrap_or(0))?;
        steps.iter().rev().try_for_each(|step| write!(f, "{step:09}"))
    }
}

fn limb(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |limb, byte| limb << 8 | u32::from(*byte))
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        BigInteger::value(false, &number.to_le_bytes())
    }
}

/// The longest there are, with their sign.
pub(super) const LONGEST: usize = 20;

/// An integer in decimal, at the end of `digits`.
pub(super) fn decimal(value: i64, digits: &mut [u8; LONGEST]) -> &[u8] {
    let (mut rest, mut at) = (value.unsigned_abs(), LONGEST);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    &digits[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Value {
        let digits = text.strip_prefix('-');
        BigInteger::of_digits(digits.is_some(), digits.unwrap_or(text).as_bytes())
    }

    #[test]
    fn what_fits_64_bits_is_no_big_one() {
        for number in [0, 1, -1, 255, -256, i64::MAX, i64::MIN] {
            assert_eq!(decimal(&number.to_string()), Value::Integer(number));
        }
        assert_eq!(Value::from(7), Value::Integer(7));
        assert_eq!(decimal("-0"), Value::Integer(0));
    }

    #[test]
    fn integers_are_written_in_decimal() {
        for number in [0, 7, -7, 10, 41_771_983_423_143_937, i64::MAX, i64::MIN] {
            assert_eq!(super::decimal(number, &mut [0; LONGEST]), number.to_string().as_bytes());
        }
    }

    #[test]
    fn what_does_not_is_exact() {
        let most = "9".repeat(MOST_DIGITS);
        for text in
            ["9223372036854775808", "-9223372036854775809", "18446744073709551616", "1000000000000000000000", &most]
        {
            let Value::Big(big) = decimal(text) else { panic!("{text} does not fit") };
            assert_eq!(big.to_string(), text);
            assert_eq!(BigInteger::bounded(big.negative, &big.magnitude), Some(decimal(text)));
        }
        let Value::Big(too_long) = decimal(&format!("1{}", "0".repeat(MOST_DIGITS))) else { panic!("it does not fit") };
        assert_eq!(too_long.magnitude.len(), MOST_BYTES);
        assert_eq!(BigInteger::bounded(false, &too_long.magnitude), None);
        let Value::Big(big) = Value::from(u64::MAX) else { panic!("it does not fit an i64") };
        assert_eq!(big.as_u64(), Some(u64::MAX));
        let Value::Big(big) = decimal("18446744073709551616") else { panic!("it does not fit an i64") };
        assert_eq!((&*big.magnitude, big.as_u64()), (&[0, 0, 0, 0, 0, 0, 0, 0, 1][..], None));
    }
}
