//! From JSON, which has no lengths.

use super::open::Open;
use super::{Integers, Taking, Texts, simple};
use crate::encoding::json::JsonError;
use crate::encoding::json::scan::Scanner;

pub(super) fn transcode<F: Open>(bytes: &[u8], taking: Taking, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let from = Scanner::new(bytes);
    if taking.texts != Texts::Lossy {
        return scanned::<F>(from, taking.integers, out);
    }
    if from.is_utf8() {
        return scanned::<F>(from.lossy(), taking.integers, out);
    }
    let text = String::from_utf8_lossy(bytes);
    scanned::<F>(Scanner::new(text.as_bytes()).lossy(), taking.integers, out)
}

fn scanned<F: Open>(from: Scanner<'_>, integers: Integers, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let mut transcoder = Transcoder { from, scratch: String::new(), integers, out };
    transcoder.value::<F>(0)?;
    transcoder.from.end()
}

struct Transcoder<'a, 'o> {
    from: Scanner<'a>,
    /// For texts with escapes.
    scratch: String,
    integers: Integers,
    out: &'o mut Vec<u8>,
}

impl Transcoder<'_, '_> {
    /// No deeper than the scanner lets it.
    fn value<F: Open>(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.from.skip_space() {
            Some(b'"') => self.text::<F>(),
            Some(b'{') => self.map::<F>(depth),
            Some(b'[') => self.list::<F>(depth),
            Some(b'-' | b'0'..=b'9') => {
                let number = self.from.number()?.value();
                simple::<F>(&number, self.integers, self.out);
                Ok(())
            }
            Some(b'n') => self.from.word("null").map(|()| F::null(self.out)),
            Some(b't') => self.from.word("true").map(|()| F::bool(self.out, true)),
            Some(b'f') => self.from.word("false").map(|()| F::bool(self.out, false)),
            _ => Err(self.from.unexpected()),
        }
    }

    fn list<F: Open>(&mut self, depth: usize) -> Result<(), JsonError> {
        let (begin, most) = (self.out.len(), self.most());
        if !self.from.enter(depth, b']')? {
            F::begin_list(self.out, 0);
            F::end_list(self.out);
            return Ok(());
        }
        F::open_list(self.out, most);
        let mut length = 1;
        loop {
            self.value::<F>(depth + 1)?;
            if !self.from.more(b']')? {
                break;
            }
            F::separate(self.out);
            length += 1;
        }
        F::close_list(self.out, begin, length);
        Ok(())
    }

    fn map<F: Open>(&mut self, depth: usize) -> Result<(), JsonError> {
        let (begin, most) = (self.out.len(), self.most());
        if !self.from.enter(depth, b'}')? {
            F::begin_map(self.out, 0);
            F::end_map(self.out);
            return Ok(());
        }
        F::open_map(self.out, most);
        let mut length = 1;
        loop {
            self.from.at_key()?;
            self.text::<F>()?;
            self.from.colon()?;
            F::colon(self.out);
            self.value::<F>(depth + 1)?;
            if !self.from.more(b'}')? {
                break;
            }
            F::separate(self.out);
            length += 1;
        }
        F::close_map(self.out, begin, length);
        Ok(())
    }

    fn text<F: Open>(&mut self) -> Result<(), JsonError> {
        let text = self.from.text(&mut self.scratch)?;
        F::text(self.out, text);
        Ok(())
    }

    /// Of items, which have a byte at least, and a comma or a bracket behind them.
    const fn most(&self) -> usize {
        self.from.left() / 2
    }
}
