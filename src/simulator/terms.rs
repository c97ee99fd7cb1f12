//! Packets in Erlang's term format, as Discord writes them and as it wants them written.
//!
//! Everything here is made in JSON. On a connection in ETF it becomes what Discord has there: keys that are atoms, maps in the
//! order of their keys, ids that are numbers, lists of small numbers that are strings of bytes. What a client sends is read
//! strictly: its keys are to be binaries, and nothing is compressed. Sans-I/O.

use serde_json::{Map, Number, Value};

use crate::encoding::MOST_DEPTH;
use crate::encoding::etf::{
    ATOM, ATOM_UTF8, BINARY, INTEGER, LARGE_BIG, LARGE_TUPLE, LIST, MAP, NEW_FLOAT, NIL, SMALL_ATOM, SMALL_ATOM_UTF8,
    SMALL_BIG, SMALL_INTEGER, SMALL_TUPLE, STRING, VERSION,
};

/// The largest number that JSON's readers all hold exactly. Discord's ids are larger.
const EXACT: u64 = (1 << 53) - 1;

// ---- as Discord writes ----

/// The term of a packet in JSON; `None` if it is no JSON.
pub fn packet(json: &[u8]) -> Option<Vec<u8>> {
    let packet: Value = serde_json::from_slice(json).ok()?;
    let mut out = Vec::with_capacity(json.len() + json.len() / 4);
    out.push(VERSION);
    let fields = packet.as_object()?;
    begin_map(&mut out, fields.len());
    // Sorted, as all maps here are.
    for (name, value) in fields {
        atom(&mut out, name);
        match value.as_str() {
            Some(event) if name == "t" => atom(&mut out, event),
            _ => write(&mut out, name, value),
        }
    }
    Some(out)
}

/// Writes the value of a key.
fn write(out: &mut Vec<u8>, key: &str, value: &Value) {
    match value {
        Value::Null => atom(out, "nil"),
        Value::Bool(true) => atom(out, "true"),
        Value::Bool(false) => atom(out, "false"),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => integer(out, number),
            (None, Some(number)) => big(out, false, number),
            (None, None) => {
                out.push(NEW_FLOAT);
                out.extend(number.as_f64().expect("a finite number").to_be_bytes());
            }
        },
        Value::String(text) => match id(key, text) {
            Some(id) => big(out, false, id),
            None if key == "session_type" => atom(out, text),
            None => binary(out, text.as_bytes()),
        },
        Value::Array(items) => list(out, items),
        Value::Object(entries) => {
            begin_map(out, entries.len());
            for (key, value) in entries {
                // Ids as keys come from data, not from a program.
                if key.starts_with(|c: char| c.is_ascii_digit()) || key.len() > 255 {
                    binary(out, key.as_bytes());
                } else {
                    atom(out, key);
                }
                write(out, key, value);
            }
        }
    }
}

fn list(out: &mut Vec<u8>, items: &[Value]) {
    let bytes: Option<Vec<u8>> = items.iter().map(|item| u8::try_from(item.as_u64()?).ok()).collect();
    match bytes.filter(|bytes| !bytes.is_empty()) {
        Some(bytes) if bytes.len() <= usize::from(u16::MAX) => {
            out.push(STRING);
            out.extend((bytes.len() as u16).to_be_bytes());
            out.extend(bytes);
        }
        _ => {
            if !items.is_empty() {
                out.push(LIST);
                out.extend((items.len() as u32).to_be_bytes());
                items.iter().for_each(|item| write(out, "", item));
            }
            out.push(NIL);
        }
    }
}

/// The number of an id. What is shorter than one may be a text that is made of digits.
fn id(key: &str, text: &str) -> Option<u64> {
    let is_id = key == "id" || key.ends_with("_id") && key != "custom_id";
    let number = text.parse().ok().filter(|number| *number > EXACT)?;
    (is_id && !text.starts_with('+')).then_some(number)
}

fn integer(out: &mut Vec<u8>, number: i64) {
    if let Ok(small) = u8::try_from(number) {
        out.extend([SMALL_INTEGER, small]);
    } else if let Ok(number) = i32::try_from(number) {
        out.push(INTEGER);
        out.extend(number.to_be_bytes());
    } else {
        big(out, number < 0, number.unsigned_abs());
    }
}

fn big(out: &mut Vec<u8>, negative: bool, number: u64) {
    let digits = (8 - number.leading_zeros() / 8).max(1) as u8;
    out.extend([SMALL_BIG, digits, negative.into()]);
    out.extend(&number.to_le_bytes()[..digits.into()]);
}

fn atom(out: &mut Vec<u8>, name: &str) {
    out.push(ATOM);
    out.extend((name.len() as u16).to_be_bytes());
    out.extend(name.as_bytes());
}

fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(BINARY);
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

fn begin_map(out: &mut Vec<u8>, length: usize) {
    out.push(MAP);
    out.extend((length as u32).to_be_bytes());
}

// ---- as Discord reads ----

/// What a client sent; why that is not taken.
pub fn read(message: &[u8]) -> Result<Value, &'static str> {
    let mut reader = Reader { rest: message };
    if reader.u8()? != VERSION {
        return Err("a term begins with 131");
    }
    let value = reader.term(0)?;
    if reader.rest.is_empty() { Ok(value) } else { Err("something is behind the term") }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn term(&mut self, depth: usize) -> Result<Value, &'static str> {
        if depth > MOST_DEPTH {
            return Err("the term is too deep");
        }
        match self.u8()? {
            SMALL_INTEGER => Ok(self.u8()?.into()),
            INTEGER => Ok(i32::from_be_bytes(self.array()?).into()),
            SMALL_BIG => self.u8().and_then(|length| self.big(length.into())),
            LARGE_BIG => self.len32().and_then(|length| self.big(length)),
            NEW_FLOAT => {
                let float = Number::from_f64(f64::from_be_bytes(self.array()?));
                Ok(Value::Number(float.ok_or("a float is no number")?))
            }
            kind @ (ATOM | ATOM_UTF8) => self.len16().and_then(|length| self.atom(kind, length)),
            kind @ (SMALL_ATOM | SMALL_ATOM_UTF8) => self.u8().and_then(|length| self.atom(kind, length.into())),
            BINARY => self.len32().and_then(|length| self.text(length)).map(Value::String),
            NIL => Ok(Value::Array(Vec::new())),
            STRING => {
                let length = self.len16()?;
                Ok(self.take(length)?.iter().map(|byte| Value::from(*byte)).collect())
            }
            SMALL_TUPLE => self.u8().and_then(|length| self.items(length.into(), depth)),
            LARGE_TUPLE => self.len32().and_then(|length| self.items(length, depth)),
            LIST => {
                let length = self.len32()?;
                let items = self.items(length, depth)?;
                if self.u8()? == NIL { Ok(items) } else { Err("a list is improper") }
            }
            MAP => {
                let length = self.len32()?;
                let mut map = Map::new();
                for _ in 0..length {
                    let key = match self.u8()? {
                        BINARY => self.len32().and_then(|length| self.text(length))?,
                        ATOM | ATOM_UTF8 | SMALL_ATOM | SMALL_ATOM_UTF8 => return Err("a key is an atom"),
                        _ => return Err("a key is no binary"),
                    };
                    map.insert(key, self.term(depth + 1)?);
                }
                Ok(Value::Object(map))
            }
            80 => Err("the term is compressed"),
            _ => Err("a term of a kind that is not taken"),
        }
    }

    fn items(&mut self, length: usize, depth: usize) -> Result<Value, &'static str> {
        // A length may lie: nothing is reserved.
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(self.term(depth + 1)?);
        }
        Ok(Value::Array(items))
    }

    fn big(&mut self, length: usize) -> Result<Value, &'static str> {
        const TOO_LARGE: &str = "an integer beyond 64 bits";
        let sign = self.u8()?;
        let digits = self.take(length)?;
        let mut number = [0; 8];
        number.get_mut(..length).ok_or(TOO_LARGE)?.copy_from_slice(digits);
        let number = u64::from_le_bytes(number);
        match sign {
            0 => Ok(number.into()),
            1 => i64::try_from(-i128::from(number)).map(Value::from).map_err(|_| TOO_LARGE),
            _ => Err("a sign is neither 0 nor 1"),
        }
    }

    fn atom(&mut self, kind: u8, length: usize) -> Result<Value, &'static str> {
        let name = self.take(length)?;
        match name {
            b"nil" | b"null" => Ok(Value::Null),
            b"true" => Ok(true.into()),
            b"false" => Ok(false.into()),
            name if matches!(kind, ATOM | SMALL_ATOM) => {
                Ok(name.iter().copied().map(char::from).collect::<String>().into())
            }
            name => Ok(std::str::from_utf8(name).map_err(|_| "an atom is not UTF-8")?.into()),
        }
    }

    fn text(&mut self, length: usize) -> Result<String, &'static str> {
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| "a binary is not UTF-8")
    }

    fn take(&mut self, length: usize) -> Result<&[u8], &'static str> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        self.array().map(|[byte]| byte)
    }

    fn len16(&mut self) -> Result<usize, &'static str> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    fn len32(&mut self) -> Result<usize, &'static str> {
        Ok(u32::from_be_bytes(self.array()?) as usize)
    }
}

const CUT_SHORT: &str = "the term is cut short";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::payloads;
    use super::*;
    use crate::encoding::{self, Encoding, etf};

    #[test]
    fn a_packet_has_discords_form() {
        let json = br#"{"t":"READY","s":1,"op":0,"d":{"v":10,"shard":[0,1],"user":{"id":"1371343803441934368","bot":true},
            "session_type":"normal","guilds":[],"n":[300],"roles":["1371343803441934368"],"custom_id":"1371343803441934368"}}"#;
        let term = packet(json).expect("JSON");
        let mut expected = b"\x83\x74\0\0\0\x04\x64\0\x01d\x74\0\0\0\x08".to_vec();
        for field in [
            &b"\x64\0\x09custom_id\x6d\0\0\0\x131371343803441934368"[..],
            b"\x64\0\x06guilds\x6a",
            b"\x64\0\x01n\x6c\0\0\0\x01\x62\0\0\x01\x2c\x6a",
            b"\x64\0\x05roles\x6c\0\0\0\x01\x6d\0\0\0\x131371343803441934368\x6a",
            b"\x64\0\x0csession_type\x64\0\x06normal",
            b"\x64\0\x05shard\x6b\0\x02\0\x01",
            b"\x64\0\x04user\x74\0\0\0\x02\x64\0\x03bot\x64\0\x04true\x64\0\x02id\x6e\x08\0",
            &1_371_343_803_441_934_368_u64.to_le_bytes(),
            b"\x64\0\x01v\x61\x0a",
            b"\x64\0\x02op\x61\0\x64\0\x01s\x61\x01\x64\0\x01t\x64\0\x05READY",
        ] {
            expected.extend_from_slice(field);
        }
        assert_eq!(term, expected);
        assert_eq!(packet(b"{"), None);
    }

    /// JSON's value as a packet of ours comes to a decoder: ids are numbers.
    fn with_numbers(key: &str, value: &Value) -> Value {
        match value {
            Value::String(text) => id(key, text).map_or_else(|| value.clone(), Value::from),
            Value::Array(items) => items.iter().map(|item| with_numbers("", item)).collect(),
            Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), with_numbers(key, value))).collect(),
            other => other.clone(),
        }
    }

    #[test]
    fn every_example_is_a_term_that_says_the_same() {
        for text in payloads::ALL.iter().flat_map(|example| example.packets) {
            let value: Value = serde_json::from_str(text).expect("JSON");
            let term = etf::read(&packet(text.as_bytes()).expect("JSON")).expect("a term");
            let mut json = Vec::new();
            encoding::write(Encoding::Json, &term, &mut json);
            let read: Value = serde_json::from_slice(&json).expect("JSON");
            assert_eq!(read, with_numbers("", &value), "{text}");
        }
    }

    #[test]
    fn what_discord_refuses_of_a_client_is_refused() {
        for (message, why) in [
            (&b""[..], CUT_SHORT),
            (b"{}", "a term begins with 131"),
            (b"\x83\x6a\x6a", "something is behind the term"),
            (b"\x83\x50\0\0\0\x10\x78\x9c", "the term is compressed"),
            (b"\x83\x74\0\0\0\x01\x64\0\x02op\x61\x01", "a key is an atom"),
            (b"\x83\x74\0\0\0\x01\x77\x02op\x61\x01", "a key is an atom"),
            (b"\x83\x74\0\0\0\x01\x6d\0\0\0\x01d\x74\0\0\0\x01\x73\x01a\x61\x01", "a key is an atom"),
            (b"\x83\x74\0\0\0\x01\x61\x01\x61\x01", "a key is no binary"),
            (b"\x83\x6c\xff\xff\xff\xff\x61\x01", CUT_SHORT),
            (b"\x83\x6c\0\0\0\x01\x61\x01\x61\x01", "a list is improper"),
            (b"\x83\x46\x7f\xf0\0\0\0\0\0\0", "a float is no number"),
            (b"\x83\x6d\0\0\0\x01\xff", "a binary is not UTF-8"),
            (b"\x83\x67", "a term of a kind that is not taken"),
        ] {
            assert_eq!(read(message), Err(why), "{message:x?}");
        }
        assert_eq!(read(&[&[131][..], &[104, 1].repeat(4000)].concat()), Err("the term is too deep"));
    }

    proptest! {
        /// What our own writer makes of a packet is what is read here.
        #[test]
        fn what_binary_keys_say_is_read(
            text in ".{0,20}",
            number: i64,
            large: u64,
            float in any::<f32>().prop_filter("finite", |float| float.is_finite()),
            flag: Option<bool>,
        ) {
            let value = json!({"op": 3, "d": {"t": text, "n": [number, large, float, 1.5, flag], "l": [1, 2], "e": [], "m": {}}});
            let message = crate::discord::wire::write(
                crate::discord::compression::Encoding::Etf,
                value.to_string().as_bytes(),
            )?.into_owned();
            prop_assert_eq!(read(&message), Ok(value));
        }

        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            bytes.insert(0, 131);
            let _ = read(&bytes);
        }
    }
}
