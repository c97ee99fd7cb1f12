//! Who may read, and who may have something done (spec/seeing.md, "Who may read").
//!
//! On the machine itself reading is open, unless that is closed: to a request from a loopback address that was sent to a loopback
//! name, passed on by nobody and asked for by no other site. The name matters, because a page of any site can have its own name lead
//! to 127.0.0.1, and then reads what its visitor reads; a proxy on this machine asks for others; and who opens 127.0.0.1 from
//! elsewhere in a browser reads nothing, but takes the places of viewers. Everybody else tells the token, and so does everybody who
//! has something done.
//!
//! The token comes in the header `Authorization` and nowhere else: no page of another site can have a browser send it. Wrong ones
//! are answered late, and few at a time wait, so that they keep nobody from asking for health.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use hyper::header::{AUTHORIZATION, FORWARDED, HOST, HeaderMap, HeaderValue, ORIGIN, VIA, WWW_AUTHENTICATE};
use hyper::{Request, StatusCode, Version};
use tokio::sync::Semaphore;

use super::answer::{Answer, error};
use crate::passwords::{Passwords, Verdict};
use crate::secret::Secret;

/// So many wrong tokens wait for their answer; the rest is refused at once.
pub(super) const MOST_WAITING: usize = 8;

const NOBODY_ACTS: &str = "there is no admin interface: HTTP_TOKEN is not set";

const NOBODY_READS: &str = "this is read on the machine itself alone, by 127.0.0.1 or localhost: HTTP_TOKEN is not set; \
                            set it, and tell it as \"Authorization: Bearer <HTTP_TOKEN>\" to read from elsewhere";

/// See the module.
pub struct Readers {
    /// `None`: nobody is let in who has to tell it.
    passwords: Option<Passwords>,
    /// Whether who is here reads without it.
    is_open_here: bool,
    waiting: Semaphore,
}

impl Readers {
    /// With this token.
    pub fn new(token: Option<Secret>) -> Self {
        let passwords = token.map(Passwords::of_token);
        Self { passwords, is_open_here: true, waiting: Semaphore::new(MOST_WAITING) }
    }

    /// Those on the machine itself are asked for the token, too.
    #[must_use]
    pub fn closed_here(self) -> Self {
        Self { is_open_here: false, ..self }
    }

    /// Whether a request of this address may read. Whoever may not, waits for the answer.
    ///
    /// # Errors
    /// What it is told.
    pub async fn may_read<B>(&self, request: &Request<B>, peer: IpAddr) -> Result<(), Box<Answer>> {
        if self.is_open_here && is_here(request, peer) {
            Ok(())
        } else {
            self.authorised(request.headers(), peer, NOBODY_READS).await
        }
    }

    /// Whether it may have something done.
    ///
    /// # Errors
    /// What it is told.
    pub async fn may_act<B>(&self, request: &Request<B>, peer: IpAddr) -> Result<(), Box<Answer>> {
        self.authorised(request.headers(), peer, NOBODY_ACTS).await
    }

    /// Whoever does not know the token waits for the answer: tokens are not to be tried out quickly.
    async fn authorised(&self, headers: &HeaderMap, peer: IpAddr, no_token: &str) -> Result<(), Box<Answer>> {
        let Some(passwords) = &self.passwords else { return Err(error(StatusCode::FORBIDDEN, no_token).into()) };
        let too_many = || error(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens: come back later").into();
        match passwords.check(bearer(headers), peer, Instant::now()) {
            Verdict::Right => return Ok(()),
            Verdict::TooMany => return Err(too_many()),
            Verdict::Wrong(Duration::ZERO) => {}
            Verdict::Wrong(wait) => {
                let _waiting = self.waiting.try_acquire().map_err(|_| too_many())?;
                tokio::time::sleep(wait).await;
            }
        }
        let text = "the header \"Authorization: Bearer <HTTP_TOKEN>\" is missing, or the token is wrong";
        let mut refusal = error(StatusCode::UNAUTHORIZED, text);
        refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(refusal.into())
    }
}

/// What the scheme `Bearer` carries.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether it comes from this machine, for this machine, and from nobody else through it.
fn is_here<B>(request: &Request<B>, peer: IpAddr) -> bool {
    let headers = request.headers();
    // A request line with a whole URL has a name, too, and servers go by that one.
    let in_line = request.uri().authority().map(hyper::http::uri::Authority::as_str);
    let mut in_headers = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default()).peekable();
    peer.to_canonical().is_loopback()
        && !is_passed_on(request)
        && !is_of_another_site(headers)
        && in_headers.peek().is_some()
        && in_headers.chain(in_line).all(is_loopback_name)
}

/// Whether a proxy asks for somebody else. One that says nothing of that speaks HTTP/1.0, as nginx does unless it is told otherwise.
fn is_passed_on<B>(request: &Request<B>) -> bool {
    let is_by_proxy = |name: &str| name.starts_with("x-forwarded") || name == "x-real-ip";
    let headers = request.headers();
    request.version() < Version::HTTP_11
        || [FORWARDED, VIA].iter().any(|name| headers.contains_key(name))
        || headers.keys().any(|name| is_by_proxy(name.as_str()))
}

/// Whether a browser asks for a page of another site, or because of one. What is no browser says nothing of that.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let all = |name: &str, is_fine: fn(&str) -> bool| {
        headers.get_all(name).iter().all(|value| value.to_str().is_ok_and(is_fine))
    };
    let is_here = |origin: &str| origin.split_once("://").is_some_and(|(_, host)| is_loopback_name(host));
    !all("sec-fetch-site", |site| matches!(site, "same-origin" | "none")) || !all(ORIGIN.as_str(), is_here)
}

/// Whether a `Host` is this machine's own: `localhost`, `127.….….…` or `[::1]`, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if !port.ends_with(']') => {
            if !port.bytes().all(|digit| digit.is_ascii_digit()) {
                return false;
            }
            bare
        }
        _ => host,
    };
    bare.eq_ignore_ascii_case("localhost")
        || bare == "[::1]"
        || bare.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "hunter2.hunter2.hunter2";
    const HERE: &str = "127.0.0.1";
    const THERE: &str = "192.0.2.1";

    /// The status for a request with these headers, to read and to act.
    async fn told(token: Option<&str>, peer: &str, headers: &[(&str, &str)]) -> (u16, u16) {
        let readers = Readers::new(token.map(Secret::new));
        let mut request = Request::get("/api/live");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (request, peer) = (request.body(()).expect("a request"), peer.parse().expect("an address"));
        let status = |told: Result<(), Box<Answer>>| told.map_or_else(|refusal| refusal.status().as_u16(), |()| 200);
        (status(readers.may_read(&request, peer).await), status(readers.may_act(&request, peer).await))
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_here_reads_and_others_tell_the_token() {
        let right = ("authorization", "Bearer hunter2.hunter2.hunter2");
        let wrong = ("authorization", "Bearer hunter3");
        // Address, headers, and whether it reads without a token.
        type Headers<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(&str, Headers<'_>, bool)] = &[
            (HERE, &[("host", "127.0.0.1:8080")], true),
            (HERE, &[("host", "127.0.0.1")], true),
            (HERE, &[("host", "127.8.8.8:1")], true),
            (HERE, &[("host", "localhost")], true),
            (HERE, &[("host", "LocalHost:8080")], true),
            ("::1", &[("host", "[::1]:8080")], true),
            ("::1", &[("host", "[::1]")], true),
            ("::ffff:127.0.0.1", &[("host", "localhost:8080")], true),
            (THERE, &[("host", "127.0.0.1:8080")], false),
            (THERE, &[("host", "localhost")], false),
            ("::ffff:192.0.2.1", &[("host", "localhost")], false),
            (HERE, &[], false),
            (HERE, &[("host", "")], false),
            (HERE, &[("host", "optic.example")], false),
            (HERE, &[("host", "localhost.example:8080")], false),
            (HERE, &[("host", "127.0.0.1.example")], false),
            (HERE, &[("host", "example:127.0.0.1")], false),
            (HERE, &[("host", "localhost:x")], false),
            (HERE, &[("host", "192.0.2.1:8080")], false),
            (HERE, &[("host", "0.0.0.0:8080")], false),
            (HERE, &[("host", "[::2]")], false),
            (HERE, &[("host", "localhost"), ("host", "evil.example")], false),
            (HERE, &[("host", "localhost"), ("forwarded", "for=192.0.2.1")], false),
            (HERE, &[("host", "localhost"), ("x-forwarded-for", "192.0.2.1")], false),
            (HERE, &[("host", "localhost"), ("x-forwarded-for", "127.0.0.1")], false),
            (HERE, &[("host", "localhost"), ("x-forwarded-proto", "https")], false),
            (HERE, &[("host", "localhost"), ("x-real-ip", "192.0.2.1")], false),
            (HERE, &[("host", "localhost"), ("via", "1.1 proxy")], false),
            (HERE, &[("host", "localhost"), ("sec-fetch-site", "same-origin")], true),
            (HERE, &[("host", "localhost"), ("sec-fetch-site", "none")], true),
            (HERE, &[("host", "localhost"), ("sec-fetch-site", "same-site")], false),
            (HERE, &[("host", "localhost"), ("sec-fetch-site", "cross-site")], false),
            (HERE, &[("host", "localhost"), ("origin", "http://localhost:8080")], true),
            (HERE, &[("host", "localhost"), ("origin", "http://[::1]:8080")], true),
            (HERE, &[("host", "localhost"), ("origin", "https://evil.example")], false),
            (HERE, &[("host", "localhost"), ("origin", "http://localhost.evil.example:8080")], false),
            (HERE, &[("host", "localhost"), ("origin", "null")], false),
            (HERE, &[("host", "localhost"), ("origin", "http://localhost"), ("origin", "null")], false),
        ];
        for (peer, headers, is_open) in cases {
            let with = |more: &[(&'static str, &'static str)]| [headers, more].concat();
            let open = |otherwise: u16| if *is_open { 200 } else { otherwise };
            let what = format!("{peer} {headers:?}");
            assert_eq!(told(None, peer, headers).await, (open(403), 403), "no token is set: {what}");
            assert_eq!(told(None, peer, &with(&[right])).await, (open(403), 403), "no token is set: {what}");
            assert_eq!(told(Some(TOKEN), peer, headers).await, (open(401), 401), "none is told: {what}");
            assert_eq!(told(Some(TOKEN), peer, &with(&[wrong])).await, (open(401), 401), "a wrong one: {what}");
            assert_eq!(told(Some(TOKEN), peer, &with(&[right])).await, (200, 200), "the right one: {what}");
        }
    }

    #[tokio::test]
    async fn a_whole_url_in_the_request_line_has_a_name_too() {
        let is_open = |uri: &str| {
            let request = Request::get(uri).header("host", "localhost").body(()).expect("a request");
            is_here(&request, HERE.parse().expect("an address"))
        };
        assert!(is_open("/api/live") && is_open("http://127.0.0.1:8080/api/live"));
        assert!(!is_open("http://evil.example/api/live") && !is_open("http://localhost@evil.example/"));
    }

    #[tokio::test]
    async fn a_proxy_that_tells_nothing_speaks_an_older_http() {
        let is_open = |version| {
            let request = Request::get("/api/live").header("host", "127.0.0.1:8080").version(version);
            is_here(&request.body(()).expect("a request"), HERE.parse().expect("an address"))
        };
        assert!(is_open(Version::HTTP_11) && !is_open(Version::HTTP_10) && !is_open(Version::HTTP_09));
    }

    #[tokio::test(start_paused = true)]
    async fn where_it_is_closed_who_is_here_tells_the_token_too() {
        let readers = Readers::new(Some(Secret::new(TOKEN))).closed_here();
        let request = |token: &str| {
            let request = Request::get("/api/live").header("host", "localhost");
            request.header(AUTHORIZATION, format!("Bearer {token}")).body(()).expect("a request")
        };
        let peer = HERE.parse().expect("an address");
        assert_eq!(readers.may_read(&request("wrong"), peer).await.expect_err("not let in").status(), 401);
        assert!(readers.may_read(&request(TOKEN), peer).await.is_ok());
    }

    #[tokio::test]
    async fn refusals_say_what_to_do() {
        for (token, status, says) in [(None, 403, "HTTP_TOKEN is not set"), (Some(TOKEN), 401, "Authorization: Bearer")]
        {
            let request = Request::get("/").body(()).expect("a request");
            let readers = Readers::new(token.map(Secret::new));
            let refusal = readers.may_read(&request, THERE.parse().expect("an address")).await.expect_err("not let in");
            assert_eq!(refusal.status(), status);
            assert_eq!(refusal.headers().contains_key(WWW_AUTHENTICATE), token.is_some());
            let body = http_body_util::BodyExt::collect(refusal.into_body()).await.expect("whole").to_bytes();
            assert!(String::from_utf8_lossy(&body).contains(says), "{body:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_tokens_wait_and_too_many_are_not_looked_at() {
        let readers = Readers::new(Some(Secret::new(TOKEN)));
        let request = Request::get("/").header(AUTHORIZATION, "Bearer wrong").body(()).expect("a request");
        let wrong = || async {
            let told = readers.may_read(&request, THERE.parse().expect("an address")).await;
            told.expect_err("not let in").status().as_u16()
        };
        let before = tokio::time::Instant::now();
        assert_eq!(wrong().await, 401);
        assert!(before.elapsed() >= Duration::from_millis(100));
        let statuses = futures_util::future::join_all((0..50).map(|_| wrong())).await;
        assert!(statuses.iter().filter(|status| **status == 401).count() <= MOST_WAITING);
        assert!(statuses.contains(&429));
        let request = Request::get("/").header(AUTHORIZATION, format!("Bearer {TOKEN}")).body(()).expect("a request");
        let right = readers.may_read(&request, THERE.parse().expect("an address")).await;
        assert!(right.is_ok(), "whoever tried, the right one is let in");
    }
}
