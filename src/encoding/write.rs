//! Writes values: what all forms have in common. A form says how its pieces look ([`Form`]).

use super::value::{BigInteger, Value};

/// What is to be written, made of borrowed parts: packets are written without copying what is in them.
#[derive(Clone, Copy, Debug)]
pub enum Term<'a> {
    /// A value.
    Value(&'a Value),
    /// An integer.
    Integer(i64),
    /// True or false.
    Bool(bool),
    /// A text.
    Text(&'a str),
    /// A text that is an atom in ETF.
    Atom(&'static str),
    /// Terms by key.
    Map(&'a [(&'a str, Term<'a>)]),
    /// Terms by key, where the keys are atoms in ETF.
    Struct(&'a [(&'static str, Term<'a>)]),
}

impl Term<'_> {
    /// Nothing.
    pub const NULL: Self = Self::Value(&Value::Null);
}

/// How a form's pieces look.
pub(super) trait Form {
    fn null(out: &mut Vec<u8>);
    fn bool(out: &mut Vec<u8>, value: bool);
    fn integer(out: &mut Vec<u8>, value: i64);
    fn big(out: &mut Vec<u8>, value: &BigInteger);
    fn float(out: &mut Vec<u8>, value: f64);
    /// A text, given as its UTF-8.
    fn utf8(out: &mut Vec<u8>, text: &[u8]);
    fn bytes(out: &mut Vec<u8>, value: &[u8]);

    fn text(out: &mut Vec<u8>, value: &str) {
        Self::utf8(out, value.as_bytes());
    }

    fn atom(out: &mut Vec<u8>, name: &str) {
        Self::text(out, name);
    }

    fn begin_list(out: &mut Vec<u8>, length: usize);
    fn end_list(out: &mut Vec<u8>);
    fn begin_map(out: &mut Vec<u8>, length: usize);
    fn end_map(out: &mut Vec<u8>);

    /// Between two items of a list or map.
    fn separate(_out: &mut Vec<u8>) {}

    /// Between a key and its value.
    fn colon(_out: &mut Vec<u8>) {}
}

pub(super) fn term<F: Form>(out: &mut Vec<u8>, term: &Term<'_>) {
    match *term {
        Term::Value(value) => self::value::<F>(out, value),
        Term::Integer(integer) => F::integer(out, integer),
        Term::Bool(bool) => F::bool(out, bool),
        Term::Text(text) => F::text(out, text),
        Term::Atom(name) => F::atom(out, name),
        Term::Map(entries) => map::<F, _, _>(out, entries, |out, (key, value)| {
            F::text(out, key);
            F::colon(out);
            self::term::<F>(out, value);
        }),
        Term::Struct(fields) => map::<F, _, _>(out, fields, |out, (name, value)| {
            F::atom(out, name);
            F::colon(out);
            self::term::<F>(out, value);
        }),
    }
}

/// Values are as deep as readers let them be, and a little more.
pub(super) fn value<F: Form>(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => F::null(out),
        Value::Bool(bool) => F::bool(out, *bool),
        Value::Integer(integer) => F::integer(out, *integer),
        Value::Big(big) => F::big(out, big),
        Value::Float(float) => F::float(out, *float),
        Value::String(text) => F::text(out, text),
        Value::Bytes(bytes) => F::bytes(out, bytes),
        Value::List(items) => {
            F::begin_list(out, items.len());
            separated::<F, _>(out, items, self::value::<F>);
            F::end_list(out);
        }
        Value::Map(entries) => map::<F, _, _>(out, entries.iter(), |out, (key, value)| {
            F::text(out, key);
            F::colon(out);
            self::value::<F>(out, value);
        }),
    }
}

fn map<F: Form, I, E>(out: &mut Vec<u8>, entries: I, entry: E)
where
    I: IntoIterator<IntoIter: ExactSizeIterator>,
    E: FnMut(&mut Vec<u8>, I::Item),
{
    let entries = entries.into_iter();
    F::begin_map(out, entries.len());
    separated::<F, _>(out, entries, entry);
    F::end_map(out);
}

fn separated<F: Form, I: IntoIterator>(out: &mut Vec<u8>, items: I, mut write: impl FnMut(&mut Vec<u8>, I::Item)) {
    for (n, item) in items.into_iter().enumerate() {
        if n > 0 {
            F::separate(out);
        }
        write(out, item);
    }
}
