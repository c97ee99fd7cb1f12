//! What is answered, whatever was asked.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// An answer.
pub type Answer = Response<Content>;

/// What every answer carries. There is no script and no style on a page but from here, no page of others around it, and nothing
/// that it could send elsewhere.
const SECURITY: [(HeaderName, &str); 3] = [
    (
        hyper::header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (hyper::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (hyper::header::REFERRER_POLICY, "no-referrer"),
];

/// What is in an answer.
pub enum Content {
    /// It is a whole already.
    Whole(Full<Bytes>),
    /// It goes on for as long as somebody reads. The next part is asked for when the one before it is on its way.
    Stream(BoxStream<'static, Bytes>),
}

impl Content {
    /// Whether it has no end.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole).poll_frame(cx),
            Self::Stream(stream) => stream.poll_next_unpin(cx).map(|part| part.map(|part| Ok(Frame::data(part)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// In words, for people.
pub fn text(status: StatusCode, text: &str) -> Answer {
    whole(status, "text/plain; charset=utf-8", text.to_owned())
}

/// In JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_string(value).expect("all keys are texts");
    whole(status, "application/json", body + "\n")
}

/// `{"error":…}`: what is wrong, in words.
pub fn error(status: StatusCode, text: &str) -> Answer {
    json(status, &serde_json::json!({ "error": text }))
}

/// With these methods in `Allow`.
pub fn allowing(mut answer: Answer, methods: &'static str) -> Answer {
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

/// A text of this kind. Nobody keeps it: the next one may be another.
pub fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    answer(status, content_type, Content::Whole(Full::new(body.into())))
}

/// What goes on.
pub fn stream(content_type: &'static str, parts: BoxStream<'static, Bytes>) -> Answer {
    answer(StatusCode::OK, content_type, Content::Stream(parts))
}

/// With the headers that all have.
pub fn secured(mut answer: Answer) -> Answer {
    let headers: &mut HeaderMap = answer.headers_mut();
    for (name, value) in SECURITY {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn answer(status: StatusCode, content_type: &'static str, content: Content) -> Answer {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
