//! `/api/chart/*.svg`: the charts, drawn once for all who look at them, and anew when there is more to draw.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::StatusCode;
use hyper::body::Bytes;
use url::form_urlencoded;

use super::chart::{self, ChartKind, WIDTHS};
use crate::http::answer::{Answer, error, whole};
use crate::http::lookout::Lookout;
use crate::seen::Sample;

/// Widths are rounded up to multiples of this: windows of nearly the same width share a picture.
const STEP: u32 = 40;

/// Without a width in the request.
const WIDTH: u32 = 640;

/// See the module.
pub struct Pictures {
    lookout: Arc<dyn Lookout>,
    drawn: Mutex<Drawn>,
}

/// What was drawn of a history. There are few kinds and few widths.
#[derive(Default)]
struct Drawn {
    of: Option<Arc<[Sample]>>,
    pictures: HashMap<(ChartKind, u32), Bytes>,
}

impl Pictures {
    /// Of what this one sees.
    pub fn new(lookout: Arc<dyn Lookout>) -> Self {
        Self { lookout, drawn: Mutex::default() }
    }

    /// The picture of this name, `events.svg`, as this query wants it: `width=640`.
    pub fn answer(&self, name: &str, query: Option<&str>) -> Answer {
        let Some(kind) = name.strip_suffix(".svg").and_then(ChartKind::named) else {
            let names = ChartKind::ALL.map(|kind| format!("{}.svg", kind.name())).join(", ");
            return error(StatusCode::NOT_FOUND, &format!("there is no such chart: there are {names}"));
        };
        let asked = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).find(|(key, _)| key == "width");
        let width = match asked.map(|(_, width)| width.parse::<u32>()) {
            None => WIDTH,
            Some(Ok(width)) if WIDTHS.contains(&width) => width.next_multiple_of(STEP).min(*WIDTHS.end()),
            Some(_) => {
                let text = format!("width is a number from {} to {}", WIDTHS.start(), WIDTHS.end());
                return error(StatusCode::BAD_REQUEST, &text);
            }
        };
        whole(StatusCode::OK, "image/svg+xml", self.picture(kind, width))
    }

    fn picture(&self, kind: ChartKind, width: u32) -> Bytes {
        let history = self.lookout.look().borrow().history.clone();
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.of.as_ref().is_none_or(|of| !is_same(of, &history)) {
            *drawn = Drawn { of: Some(history.clone()), pictures: HashMap::new() };
        }
        let picture = drawn.pictures.entry((kind, width));
        picture.or_insert_with(|| chart::draw(kind, &history, width).into()).clone()
    }
}

/// Whether it is one history, or two that say the same: a new one may be put together of the old samples.
fn is_same(a: &Arc<[Sample]>, b: &Arc<[Sample]>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
