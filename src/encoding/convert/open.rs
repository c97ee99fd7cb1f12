//! Lists and maps that are begun before their length is known, as those of JSON are.

use crate::encoding::etf::{self, Etf};
use crate::encoding::json::Json;
use crate::encoding::msgpack::Msgpack;
use crate::encoding::write::Form;

/// A form that can leave a length open, and fill it in afterwards.
pub(super) trait Open: Form {
    /// Begins a list of one item or more, and at most so many.
    fn open_list(out: &mut Vec<u8>, most: usize);

    /// Ends the list that was begun where `begin` is the length of `out` before it.
    fn close_list(out: &mut Vec<u8>, begin: usize, length: usize);

    /// Begins a map of one entry or more, and at most so many.
    fn open_map(out: &mut Vec<u8>, most: usize);

    /// Ends the map that was begun there.
    fn close_map(out: &mut Vec<u8>, begin: usize, length: usize);
}

/// It has no lengths.
impl Open for Json {
    fn open_list(out: &mut Vec<u8>, most: usize) {
        Self::begin_list(out, most);
    }

    fn close_list(out: &mut Vec<u8>, _begin: usize, _length: usize) {
        Self::end_list(out);
    }

    fn open_map(out: &mut Vec<u8>, most: usize) {
        Self::begin_map(out, most);
    }

    fn close_map(out: &mut Vec<u8>, _begin: usize, _length: usize) {
        Self::end_map(out);
    }
}

/// Its lengths have four bytes.
impl Open for Etf {
    fn open_list(out: &mut Vec<u8>, _most: usize) {
        out.extend([etf::LIST, 0, 0, 0, 0]);
    }

    fn close_list(out: &mut Vec<u8>, begin: usize, length: usize) {
        fill_in(out, begin + 1, to_u32(length).to_be_bytes());
        Self::end_list(out);
    }

    fn open_map(out: &mut Vec<u8>, _most: usize) {
        out.extend([etf::MAP, 0, 0, 0, 0]);
    }

    fn close_map(out: &mut Vec<u8>, begin: usize, length: usize) {
        fill_in(out, begin + 1, to_u32(length).to_be_bytes());
    }
}

/// Not in the shortest form, which would need a look ahead or a move: two bytes for each length that can be no larger, four
/// otherwise. Every decoder reads these.
impl Open for Msgpack {
    fn open_list(out: &mut Vec<u8>, most: usize) {
        open_msgpack(out, ARRAY_16, most);
    }

    fn close_list(out: &mut Vec<u8>, begin: usize, length: usize) {
        close_msgpack(out, begin, length);
    }

    fn open_map(out: &mut Vec<u8>, most: usize) {
        open_msgpack(out, MAP_16, most);
    }

    fn close_map(out: &mut Vec<u8>, begin: usize, length: usize) {
        close_msgpack(out, begin, length);
    }
}

const ARRAY_16: u8 = 0xdc;
const MAP_16: u8 = 0xde;

fn open_msgpack(out: &mut Vec<u8>, small: u8, most: usize) {
    match u16::try_from(most) {
        Ok(_) => out.extend([small, 0, 0]),
        // The same with four bytes is the next tag.
        Err(_) => out.extend([small + 1, 0, 0, 0, 0]),
    }
}

fn close_msgpack(out: &mut [u8], begin: usize, length: usize) {
    match out[begin] {
        ARRAY_16 | MAP_16 => {
            let length = u16::try_from(length).expect("no more than at most");
            fill_in(out, begin + 1, length.to_be_bytes());
        }
        _ => fill_in(out, begin + 1, to_u32(length).to_be_bytes()),
    }
}

fn fill_in<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    out[at..at + N].copy_from_slice(&bytes);
}

fn to_u32(length: usize) -> u32 {
    u32::try_from(length).expect("nothing here has 4 GiB")
}
