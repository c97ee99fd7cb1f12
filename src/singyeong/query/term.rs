//! How values compare: Erlang's order of terms.
//!
//! Numbers (by value, whatever their type) < `false` < `null` < `true` < maps < lists < texts and bytes. How deep values lie in
//! each other is limited where they are read.

use std::cmp::Ordering;

use crate::encoding::{BigInteger, Map, Value};

/// A value, looked at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Term<'a> {
    Integer(i64),
    Big(&'a BigInteger),
    Float(f64),
    Bool(bool),
    Null,
    Map(&'a Map),
    List(&'a [Value]),
    /// Texts and bytes.
    Binary(&'a [u8]),
}

impl<'a> From<&'a Value> for Term<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(is) => Self::Bool(*is),
            Value::Integer(number) => Self::Integer(*number),
            Value::Big(number) => Self::Big(number),
            Value::Float(number) => Self::Float(*number),
            Value::String(text) => Self::Binary(text.as_bytes()),
            Value::Bytes(bytes) => Self::Binary(bytes),
            Value::List(values) => Self::List(values),
            Value::Map(map) => Self::Map(map),
        }
    }
}

impl<'a> From<&'a str> for Term<'a> {
    fn from(text: &'a str) -> Self {
        Self::Binary(text.as_bytes())
    }
}

impl Term<'_> {
    /// Its place among the kinds of terms.
    fn kind(self) -> u8 {
        match self {
            Self::Integer(_) | Self::Big(_) | Self::Float(_) => 0,
            Self::Bool(false) => 1,
            Self::Null => 2,
            Self::Bool(true) => 3,
            Self::Map(_) => 4,
            Self::List(_) => 5,
            Self::Binary(_) => 6,
        }
    }

    /// Which is greater; 1 equals 1.0.
    #[inline]
    pub fn compare(self, other: Term<'_>) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Term::Integer(b)) => a.cmp(&b),
            (Self::Binary(a), Term::Binary(b)) => a.cmp(b),
            (a, b) => a.compare_others(b),
        }
    }

    #[inline(never)]
    fn compare_others(self, other: Term<'_>) -> Ordering {
        match (self, other) {
            (Self::List(a), Term::List(b)) => compare_values(a, b),
            (Self::Map(a), Term::Map(b)) => compare_maps(a, b),
            (a, b) if a.kind() == 0 && b.kind() == 0 => compare_numbers(a, b),
            (a, b) => a.kind().cmp(&b.kind()),
        }
    }

    /// Whether both are the same, as members of lists are: 1 is not 1.0.
    pub fn is(self, other: Term<'_>) -> bool {
        match (self, other) {
            (Self::Integer(a), Term::Integer(b)) => a == b,
            (Self::Big(a), Term::Big(b)) => a == b,
            (Self::Float(a), Term::Float(b)) => a == b,
            (Self::Bool(a), Term::Bool(b)) => a == b,
            (Self::Null, Term::Null) => true,
            (Self::Map(a), Term::Map(b)) => {
                a.len() == b.len()
                    && a.iter().zip(b.iter()).all(|((a, x), (b, y))| a == b && Term::from(x).is(y.into()))
            }
            (Self::List(a), Term::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Term::from(a).is(b.into()))
            }
            (Self::Binary(a), Term::Binary(b)) => a == b,
            _ => false,
        }
    }

    /// As a float, if it is a number; at most as far as floats go.
    pub fn as_float(self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "near enough to find a mean by")]
            Self::Integer(number) => Some(number as f64),
            Self::Float(number) => Some(number),
            Self::Big(number) => {
                let size = number.magnitude.iter().rev().fold(0.0, |sum, digit| sum * 256.0 + f64::from(*digit));
                let size = f64::min(size, f64::MAX);
                Some(if number.negative { -size } else { size })
            }
            _ => None,
        }
    }
}

fn compare_values(a: &[Value], b: &[Value]) -> Ordering {
    let differs = a.iter().zip(b).map(|(a, b)| Term::from(a).compare(b.into())).find(|order| order.is_ne());
    differs.unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// By size, then by the keys, then by the values in the order of their keys.
fn compare_maps(a: &Map, b: &Map) -> Ordering {
    let keys = || a.iter().map(|(key, _)| key).cmp(b.iter().map(|(key, _)| key));
    let values = || a.iter().zip(b.iter()).map(|((_, a), (_, b))| Term::from(a).compare(b.into()));
    a.len().cmp(&b.len()).then_with(keys).then_with(|| values().find(|order| order.is_ne()).unwrap_or(Ordering::Equal))
}

fn compare_numbers(a: Term<'_>, b: Term<'_>) -> Ordering {
    match (a, b) {
        (Term::Integer(a), Term::Float(b)) => compare_with_float(a, b),
        (Term::Float(a), Term::Integer(b)) => compare_with_float(b, a).reverse(),
        // Neither is ever NaN; 0.0 and -0.0 are equal.
        (Term::Float(a), Term::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (a, b) => Exact::of(a).compare(&Exact::of(b)),
    }
}

/// Exactly: as floats, large integers would be equal to their neighbours.
fn compare_with_float(a: i64, b: f64) -> Ordering {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if b >= BEYOND {
        Ordering::Less
    } else if b < -BEYOND {
        Ordering::Greater
    } else {
        #[expect(clippy::cast_possible_truncation, reason = "it is within the range of integers")]
        let whole = b.trunc() as i64;
        a.cmp(&whole).then_with(|| 0.0_f64.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal))
    }
}

/// Any number: its sign, the digits of its whole part in base 256, and whether something is left.
struct Exact<'a> {
    negative: bool,
    whole: Digits<'a>,
    has_fraction: bool,
}

enum Digits<'a> {
    There(&'a [u8]),
    /// As many as the greatest float has.
    Here([u8; 128]),
}

impl<'a> Exact<'a> {
    fn of(number: Term<'a>) -> Self {
        let mut digits = [0; 128];
        match number {
            Term::Big(big) => {
                Self { negative: big.negative, whole: Digits::There(&big.magnitude), has_fraction: false }
            }
            Term::Integer(number) => {
                digits[..8].copy_from_slice(&number.unsigned_abs().to_le_bytes());
                Self { negative: number < 0, whole: Digits::Here(digits), has_fraction: false }
            }
            Term::Float(number) => {
                let bits = number.to_bits();
                // A float that is not tiny is `mantissa * 2^(exponent - 1075)`; a tiny one has nothing before the point.
                let exponent = usize::try_from((bits >> 52) & 0x7ff).expect("11 bits");
                let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
                match exponent.checked_sub(1075) {
                    Some(shift) => {
                        let wide = u128::from(mantissa) << (shift % 8);
                        for (at, digit) in wide.to_le_bytes().into_iter().take(8).enumerate() {
                            if digit > 0 {
                                digits[shift / 8 + at] = digit;
                            }
                        }
                    }
                    None if exponent > 1075 - 53 => {
                        digits[..8].copy_from_slice(&(mantissa >> (1075 - exponent)).to_le_bytes());
                    }
                    None => {}
                }
                Self { negative: number < 0.0, whole: Digits::Here(digits), has_fraction: number.fract() != 0.0 }
            }
            _ => Self { negative: false, whole: Digits::There(&[]), has_fraction: false },
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let (a, b) = (self.whole.significant(), other.whole.significant());
        let by_size = || {
            let digits = || a.iter().rev().cmp(b.iter().rev());
            a.len().cmp(&b.len()).then_with(digits).then(self.has_fraction.cmp(&other.has_fraction))
        };
        match (self.negative, other.negative) {
            (false, false) => by_size(),
            (true, true) => by_size().reverse(),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

impl Digits<'_> {
    /// Without zeros at the end, which is the high one.
    fn significant(&self) -> &[u8] {
        let digits = match self {
            Self::There(digits) => digits,
            Self::Here(digits) => &digits[..],
        };
        let length = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        &digits[..length]
    }
}
