//! Operators read and written: `{path, op, to}` and `{op, with}`, or in the form before 2021 `{key: {"$op": value}}`.

use super::InvalidQuery;
use super::operator::{Comparison, Fixed, Logic, Operand, Operator};
use super::path::Path;
use crate::encoding::{Map, Value};
use crate::singyeong::outbox::value_weight;

/// A query has so many operators at most: each is asked of thousands of clients.
pub const MOST_OPERATORS: usize = 256;

/// Bytes that the values and paths of a query have at most, about as they are in memory: a list of some three thousand ids
/// fits. How the query is written does not count: told to another process in the other form, it is no larger.
pub const MOST_BYTES: usize = 128 << 10;

/// So many of them may go through what a client has, which may be long: `$contains`, and what compares one of its values with
/// another.
pub const MOST_SEARCHES: usize = 64;

/// Reads operators, in both forms.
pub(super) struct Compiler {
    most_depth: usize,
    operators: usize,
    searches: usize,
    bytes: usize,
}

impl Compiler {
    pub fn new(most_depth: usize) -> Self {
        Self { most_depth, operators: 0, searches: 0, bytes: 0 }
    }

    /// Reads a list of operators.
    pub fn operators(&mut self, of: &[Value], depth: usize) -> Result<Vec<Operator>, InvalidQuery> {
        of.iter().map(|of| self.operator(of, depth)).collect()
    }

    fn operator(&mut self, of: &Value, depth: usize) -> Result<Operator, InvalidQuery> {
        let map = of.as_map().ok_or_else(|| malformed("an operator is no object"))?;
        match map.get("op") {
            Some(Value::String(name)) => self.named(name, map, depth),
            // Any key may be a client's own, "op", too.
            _ => self.by_key(map, depth),
        }
    }

    fn named(&mut self, name: &str, map: &Map, depth: usize) -> Result<Operator, InvalidQuery> {
        self.count(depth)?;
        if let Some(logic) = Logic::of_name(name) {
            let Some(Value::List(with)) = map.get("with") else { return Err(malformed("\"with\" is no list")) };
            return Ok(Operator::Combine { logic, with: self.operators(with, depth + 1)?.into() });
        }
        let comparison = Comparison::of_name(name).ok_or_else(|| unknown(name))?;
        let path = self.path(map)?;
        let to = self.operand(comparison, map.get("to"))?;
        self.compare(path, comparison, to)
    }

    /// The form before 2021: by key of the metadata, operators with their operands.
    fn by_key(&mut self, map: &Map, depth: usize) -> Result<Operator, InvalidQuery> {
        self.conjunction(map, depth, |compiler, key, operators, depth| {
            let operators = operators.as_map().ok_or_else(|| malformed("an operator has no name"))?;
            compiler.on_key(key, operators, depth)
        })
    }

    fn on_key(&mut self, key: &str, operators: &Map, depth: usize) -> Result<Operator, InvalidQuery> {
        self.conjunction(operators, depth, |compiler, name, operand, depth| {
            compiler.count(depth)?;
            if let Some(logic) = Logic::of_name(name) {
                let Value::List(with) = operand else { return Err(malformed("a logical operator has no list")) };
                let of_each = |with: &Value| {
                    let with = with.as_map().ok_or_else(|| malformed("an operator is no object"))?;
                    compiler.on_key(key, with, depth + 1)
                };
                let with = with.iter().map(of_each).collect::<Result<_, _>>()?;
                return Ok(Operator::Combine { logic, with });
            }
            let comparison = Comparison::of_name(name).ok_or_else(|| unknown(name))?;
            compiler.take_bytes(key.len() + 1)?;
            let to = Operand::Fixed(compiler.fixed(comparison, operand)?);
            compiler.compare(Path::of_key(key), comparison, to)
        })
    }

    /// All entries have to hold; one alone needs no operator that says so.
    fn conjunction(
        &mut self,
        map: &Map,
        depth: usize,
        mut each: impl FnMut(&mut Self, &str, &Value, usize) -> Result<Operator, InvalidQuery>,
    ) -> Result<Operator, InvalidQuery> {
        let depth = if map.len() == 1 {
            depth
        } else {
            self.count(depth)?;
            depth + 1
        };
        let mut with = Vec::with_capacity(map.len());
        for (key, value) in map.iter() {
            with.push(each(self, key, value, depth)?);
        }
        match (with.pop(), with.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                with.push(last);
                Ok(Operator::Combine { logic: Logic::And, with: with.into() })
            }
            (None, _) => Err(malformed("an operator has no name")),
        }
    }

    fn compare(&mut self, path: Path, comparison: Comparison, to: Operand) -> Result<Operator, InvalidQuery> {
        self.searches += usize::from(comparison.looks_into_client() || matches!(to, Operand::Path(..)));
        if self.searches > MOST_SEARCHES {
            return Err(InvalidQuery::TooManySearches(MOST_SEARCHES));
        }
        Ok(Operator::Compare { path, comparison, to })
    }

    /// The path of an object.
    fn path(&mut self, map: &Map) -> Result<Path, InvalidQuery> {
        let text = map.get("path").and_then(Value::as_str);
        self.take_bytes(text.map_or(0, str::len))?;
        text.and_then(Path::parse)
            .ok_or_else(|| malformed("an operator's path does not begin with a slash, or is too long"))
    }

    /// A value if there is one; else a path, which needs a default.
    fn operand(&mut self, comparison: Comparison, to: Option<&Value>) -> Result<Operand, InvalidQuery> {
        let Some(Value::Map(to)) = to else { return Err(malformed("an operator's \"to\" is no object")) };
        match (to.get("value"), to.get("default")) {
            (Some(value), _) => Ok(Operand::Fixed(self.fixed(comparison, value)?)),
            (None, Some(default)) => Ok(Operand::Path(self.path(to)?, self.fixed(comparison, default)?)),
            (None, None) => Err(malformed("an operator's \"to\" has neither value nor default")),
        }
    }

    fn fixed(&mut self, comparison: Comparison, value: &Value) -> Result<Fixed, InvalidQuery> {
        self.take(value)?;
        Ok(Fixed::of(comparison, value.clone()))
    }

    /// A value of the query, before anything is done with it.
    pub fn take(&mut self, value: &Value) -> Result<(), InvalidQuery> {
        self.take_bytes(value_weight(value))
    }

    fn take_bytes(&mut self, bytes: usize) -> Result<(), InvalidQuery> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MOST_BYTES { Err(InvalidQuery::TooLarge(MOST_BYTES)) } else { Ok(()) }
    }

    fn count(&mut self, depth: usize) -> Result<(), InvalidQuery> {
        if depth > self.most_depth {
            return Err(InvalidQuery::TooDeep(self.most_depth));
        }
        self.operators += 1;
        if self.operators > MOST_OPERATORS { Err(InvalidQuery::TooMany(MOST_OPERATORS)) } else { Ok(()) }
    }
}

/// As it was written, cut where it is long.
fn unknown(name: &str) -> InvalidQuery {
    const LONGEST: usize = 40;
    let shown: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    let dots = if name.chars().count() > LONGEST { "…" } else { "" };
    malformed(&format!("there is no operator {shown}{dots}"))
}

pub(super) fn malformed(what: &str) -> InvalidQuery {
    InvalidQuery::Malformed(what.to_owned())
}

impl Operator {
    /// As it is read; in the older form only where the newer cannot say it.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Combine { logic, with } => {
                let with = Value::List(with.iter().map(Self::to_value).collect());
                Value::map([("op", Value::string(logic.name())), ("with", with)])
            }
            Self::Compare { path, comparison, to } => {
                let name = comparison.name();
                if let (None, Operand::Fixed(fixed)) = (path.to_text(), to) {
                    return Value::map([(path.key(), Value::map([(name, fixed.to_value())]))]);
                }
                let text = |path: &Path| Value::string(&path.to_text().unwrap_or_default());
                let to = match to {
                    Operand::Path(path, default) => Value::map([("default", default.to_value()), ("path", text(path))]),
                    Operand::Fixed(fixed) => Value::map([("value", fixed.to_value())]),
                };
                Value::map([("op", Value::string(name)), ("path", text(path)), ("to", to)])
            }
        }
    }
}
