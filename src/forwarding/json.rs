//! Events as JSON, in which they are forwarded whatever Discord wrote them in.

use std::borrow::Cow;

use crate::broker::Event;
use crate::encoding::convert::{Taking, convert, mended};
use crate::encoding::{self, Dialect, Encoding, ReadError, Term};

/// An event's `d`. Ids are texts, as they are in Discord's own JSON; half a character becomes U+FFFD, for who reads a message would
/// refuse it whole.
///
/// # Errors
/// It is not what it is said to be.
pub(super) fn of_event<'a>(event: &Event<'a>) -> Result<Cow<'a, [u8]>, ReadError> {
    if event.encoding == Encoding::Json {
        return Ok(mended(event.data));
    }
    let mut json = Vec::new();
    convert(event.encoding, event.data, Dialect::Plain(Encoding::Json), Taking::IDS_AS_TEXT, &mut json)?;
    Ok(json.into())
}

/// Appends a text, with its quotes.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    encoding::write_term(Encoding::Json, &Term::Text(text), out);
}
