//! Bytes in an error's text, as Elixir shows them: clients of 신경 know its decoders' errors.

use std::fmt::Write;

/// So many bytes that are no text are shown.
const MOST_BYTES: usize = 50;

/// So many bytes of a text are shown.
const MOST_TEXT: usize = 4096;

/// `"text"` if it is one that can be printed, else `<<1, 2, 3>>`. However long the bytes are, this is short.
pub(super) fn inspect(bytes: &[u8]) -> String {
    let mut shown = String::new();
    if let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| text.chars().all(is_printable)) {
        shown.push('"');
        let mut chars = text.char_indices();
        for (_, c) in chars.by_ref().take_while(|(at, _)| *at < MOST_TEXT) {
            push_escaped(&mut shown, c);
        }
        shown.push('"');
        if text.len() > MOST_TEXT {
            shown.push_str(" <> ...");
        }
        return shown;
    }
    shown.push_str("<<");
    for (n, byte) in bytes.iter().take(MOST_BYTES).enumerate() {
        let comma = if n == 0 { "" } else { ", " };
        write!(shown, "{comma}{byte}").expect("a String takes everything");
    }
    shown.push_str(if bytes.len() > MOST_BYTES { ", ...>>" } else { ">>" });
    shown
}

fn is_printable(c: char) -> bool {
    matches!(c, '\x07'..='\r' | '\x1b' | ' '..='\x7f' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn push_escaped(shown: &mut String, c: char) {
    let escape = match c {
        '\x07' => 'a',
        '\x08' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\x0b' => 'v',
        '\x0c' => 'f',
        '\r' => 'r',
        '\x1b' => 'e',
        '\x7f' => 'd',
        '"' | '\\' => c,
        _ => return shown.push(c),
    };
    shown.extend(['\\', escape]);
}

#[cfg(test)]
mod tests {
    use super::inspect;

    #[test]
    fn bytes_are_shown_as_elixir_shows_them() {
        for (bytes, shown) in [
            (&b"n"[..], r#""n""#),
            (b"a\"\\\r", r#""a\"\\\r""#),
            (b"\x00", "<<0>>"),
            (b"\x80a", "<<128, 97>>"),
            ("눈".as_bytes(), "\"눈\""),
        ] {
            assert_eq!(inspect(bytes), shown);
        }
    }

    #[test]
    fn long_bytes_are_cut() {
        assert!(inspect(&[0; 1000]).ends_with("0, 0, ...>>"));
        assert_eq!(inspect(&[0; 1000]).matches('0').count(), 50);
        assert!(inspect(&[b'a'; 10_000]).len() < 4200);
    }
}
