//! Versions as semver.org and Elixir have them: `MAJOR.MINOR.PATCH[-pre][+build]`, numbers of any size.
//!
//! Works on the texts: a query compares thousands of them, and of those only its own is kept taken apart.

use std::cmp::Ordering;
use std::ops::Range;

/// A longer text is no version: each is read anew whenever it is compared.
pub const MOST_BYTES: usize = 256;

/// A version that is compared with many others.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    text: Box<str>,
    core: Range<usize>,
    pre: Option<Range<usize>>,
}

impl Version {
    /// The version that a text is, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let Parts { core, pre } = Parts::of(text)?;
        let pre = pre.map(|pre| core.len() + 1..core.len() + 1 + pre.len());
        Some(Self { core: 0..core.len(), pre, text: text.into() })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// By precedence; none if the other is no version.
    pub fn compare_with(&self, other: &str) -> Option<Ordering> {
        let own = Parts { core: &self.text[self.core.clone()], pre: self.pre.clone().map(|pre| &self.text[pre]) };
        Some(own.compare(&Parts::of(other)?))
    }
}

/// Whether a text is a version.
pub fn is_version(text: &str) -> bool {
    Parts::of(text).is_some()
}

/// By precedence, which knows no build; none if one is no version.
pub fn compare(a: &str, b: &str) -> Option<Ordering> {
    Some(Parts::of(a)?.compare(&Parts::of(b)?))
}

struct Parts<'a> {
    core: &'a str,
    pre: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// Taken apart, and found valid.
    fn of(text: &'a str) -> Option<Self> {
        if text.len() > MOST_BYTES {
            return None;
        }
        let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
        let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
        let mut numbers = 0;
        for number in core.split('.') {
            numbers += 1;
            if !is_digits(number) || has_leading_zero(number) {
                return None;
            }
        }
        let fits = |identifier: &str| is_identifier(identifier);
        let pre_fits =
            |pre: &str| pre.split('.').all(|part| fits(part) && !(is_digits(part) && has_leading_zero(part)));
        let valid = numbers == 3 && pre.is_none_or(pre_fits) && build.is_none_or(|build| build.split('.').all(fits));
        valid.then_some(Self { core, pre })
    }

    fn compare(&self, other: &Self) -> Ordering {
        compare_identifiers(self.core, other.core).then_with(|| match (self.pre, other.pre) {
            (None, None) => Ordering::Equal,
            // What comes before a release is below it.
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => compare_identifiers(a, b),
        })
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn has_leading_zero(digits: &str) -> bool {
    digits.len() > 1 && digits.starts_with('0')
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Numbers by value, below texts, which are by their bytes; of two that begin alike the shorter is below.
fn compare_identifiers(a: &str, b: &str) -> Ordering {
    a.split('.').map(Identifier::of).cmp(b.split('.').map(Identifier::of))
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Identifier<'a> {
    /// Without leading zeros the longer is the greater.
    Number(usize, &'a str),
    Text(&'a str),
}

impl<'a> Identifier<'a> {
    fn of(text: &'a str) -> Self {
        if is_digits(text) { Self::Number(text.len(), text) } else { Self::Text(text) }
    }
}
