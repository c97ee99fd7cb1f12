//! spec/encodings.md, held against other people's libraries: msgpack and erlpack for Python, @msgpack/msgpack and erlang_js for Node.
//!
//! What Optic writes they read, and what they write Optic reads, each value as it was. `OPTIC_TEST_PYTHON` and `OPTIC_TEST_NODE`
//! name the interpreter and the folder that have them.

use std::io::Write;
use std::process::{Command, Stdio};

use data_encoding::HEXLOWER;
use fastrand::Rng;
use optic::encoding::convert::{Taking, convert, to_json};
use optic::encoding::{self, Dialect, Encoding, Map, Value};
use serde::Deserialize;

/// What a program says of one value: as it read it, in JSON, and as it wrote it itself.
#[derive(Debug, Deserialize)]
struct Said {
    etf: String,
    msgpack: String,
    text: String,
    /// None where the library cannot.
    packed_etf: Option<String>,
    packed_msgpack: String,
}

#[test]
fn python_reads_what_is_written_and_is_read() {
    let python = std::env::var("OPTIC_TEST_PYTHON")
        .expect("OPTIC_TEST_PYTHON must name a Python with tests/python/requirements.txt");
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/dialects.py"));
    let mut rng = Rng::with_seed(1);
    let values: Vec<Value> = examples().chain((0..500).map(|_| any(&mut rng, Numbers::All, 4))).collect();
    hold_against(&mut command, &values, Clone::clone);
}

#[test]
fn node_reads_what_is_written_and_is_read() {
    let modules = std::env::var("OPTIC_TEST_NODE")
        .expect("OPTIC_TEST_NODE must name a folder: scripts/setup node makes target/node");
    let mut command = Command::new("node");
    command.env("NODE_PATH", format!("{modules}/node_modules"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/dialects.js"));
    let mut rng = Rng::with_seed(2);
    let values: Vec<Value> = examples().chain((0..500).map(|_| any(&mut rng, Numbers::OfJavaScript, 4))).collect();
    hold_against(&mut command, &values, as_javascript_has_it);
}

fn hold_against(command: &mut Command, values: &[Value], numbers: impl Fn(&Value) -> Value) {
    let lines: String = values.iter().map(|value| line(value) + "\n").collect();
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = program.stdin.take().expect("piped");
    let feeder = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = program.wait_with_output().expect("it ends");
    feeder.join().expect("no panic").expect("it reads all");
    assert!(output.status.success(), "{command:?} failed");
    let output = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.lines().count(), values.len());
    for (value, said) in values.iter().zip(output.lines()) {
        let said: Said = serde_json::from_str(said).expect("JSON");
        let value = numbers(value);
        for read in [&said.etf, &said.msgpack, &said.text] {
            assert_eq!(numbers(&json(read.as_bytes())), value, "{said:?}");
        }
        let packed = [(Encoding::Etf, said.packed_etf.as_ref()), (Encoding::Msgpack, Some(&said.packed_msgpack))];
        for (encoding, packed) in packed {
            let Some(packed) = packed else { continue };
            let bytes = HEXLOWER.decode(packed.as_bytes()).expect("hexadecimal digits");
            let read = to_json(Dialect::Plain(encoding), &bytes, Taking::EXACT)
                .unwrap_or_else(|error| panic!("{packed}: {error}"));
            assert_eq!(numbers(&json(&read)), value, "{packed}");
        }
    }
}

/// A value in all dialects.
fn line(value: &Value) -> String {
    let mut json = Vec::new();
    encoding::write(Encoding::Json, value, &mut json);
    let in_dialect = |dialect| {
        let mut body = Vec::new();
        convert(Encoding::Json, &json, dialect, Taking::EXACT, &mut body).expect("JSON");
        HEXLOWER.encode(&body)
    };
    let [etf, msgpack] = [Encoding::Etf, Encoding::Msgpack].map(|encoding| in_dialect(Dialect::Plain(encoding)));
    let text = in_dialect(Dialect::MsgpackText);
    let json = String::from_utf8(json).expect("text");
    serde_json::json!({"json": json, "etf": etf, "msgpack": msgpack, "text": text}).to_string()
}

fn json(text: &[u8]) -> Value {
    encoding::read(Encoding::Json, text).unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(text)))
}

// ---- values ----

/// Discord's events.
fn examples() -> impl Iterator<Item = Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/simulator/payloads");
    let files = std::fs::read_dir(folder).expect("it is there").map(|file| file.expect("a file").path());
    files.map(|path| json(&std::fs::read(path).expect("it can be read")))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// Of 64 bits.
    All,
    /// Doubles, of which some are taking.
    OfJavaScript,
}

fn any(rng: &mut Rng, numbers: Numbers, depth: u32) -> Value {
    let kinds = if depth == 0 { 8 } else { 10 };
    match rng.u32(..kinds) {
        0 => Value::Null,
        1 => Value::Bool(rng.bool()),
        2 => Value::Integer(rng.i64(-300..300)),
        3 if numbers == Numbers::All => Value::from(rng.u64(..)),
        4 if numbers == Numbers::All => Value::Integer(rng.i64(..)),
        3 | 4 => Value::Integer(rng.i64(-(1 << 53) + 1..1 << 53)),
        5 => Value::Float(loop {
            let float = f64::from_bits(rng.u64(..));
            if float.is_finite() {
                break float;
            }
        }),
        6 => Value::string(&text(rng, 40)),
        7 => Value::string(&text(rng, 400)),
        8 => {
            let length = rng.usize(..20);
            Value::List((0..length).map(|_| any(rng, numbers, depth - 1)).collect())
        }
        _ => {
            let length = rng.usize(..20);
            let entry = |_| (text(rng, 12).into(), any(rng, numbers, depth - 1));
            Value::Map(Map::new((0..length).map(entry).collect()))
        }
    }
}

fn text(rng: &mut Rng, most: usize) -> String {
    let length = rng.usize(..most);
    let mut char = || match rng.u32(..8) {
        0 => rng.char(..),
        1 => rng.char('\0'..'\u{80}'),
        _ => rng.char('a'..='z'),
    };
    (0..length).map(|_| char()).collect()
}

/// All numbers are doubles there.
fn as_javascript_has_it(value: &Value) -> Value {
    match value {
        Value::Integer(integer) => Value::Float(*integer as f64),
        Value::Big(big) => Value::Float(big.to_string().parse().expect("digits")),
        Value::List(items) => Value::List(items.iter().map(as_javascript_has_it).collect()),
        Value::Map(map) => {
            Value::Map(Map::new(map.iter().map(|(key, value)| (key.into(), as_javascript_has_it(value))).collect()))
        }
        other => other.clone(),
    }
}
