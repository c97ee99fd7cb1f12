//! The page's files, in the program itself: anybody may have them, since they hold no data.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};

use crate::http::answer::{Answer, whole};

/// A file.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const fn asset(path: &'static str, content_type: &'static str, text: &'static str) -> Asset {
    Asset { path, content_type, text }
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: [Asset; 10] = [
    asset("/", HTML, include_str!("../../../web/index.html")),
    asset("/page.css", CSS, include_str!("../../../web/page.css")),
    asset("/page.js", SCRIPT, include_str!("../../../web/page.js")),
    asset("/theme.js", SCRIPT, include_str!("../../../web/theme.js")),
    asset("/words.js", SCRIPT, include_str!("../../../web/words.js")),
    asset("/live.js", SCRIPT, include_str!("../../../web/live.js")),
    asset("/shards.js", SCRIPT, include_str!("../../../web/shards.js")),
    asset("/panels.js", SCRIPT, include_str!("../../../web/panels.js")),
    asset("/asking.js", SCRIPT, include_str!("../../../web/asking.js")),
    asset("/json.js", SCRIPT, include_str!("../../../web/json.js")),
];

/// Whether there is a file at this path.
pub fn is_at(path: &str) -> bool {
    ASSETS.iter().any(|asset| asset.path == path)
}

/// The file at this path, or that it is as it was when it was fetched last. A browser asks each time: after an upgrade it has the
/// new page at once.
pub fn answer(path: &str, headers: &HeaderMap) -> Option<Answer> {
    let asset = ASSETS.iter().find(|asset| asset.path == path)?;
    let tag = tag(asset.text);
    let is_known = |known: &str| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag);
    let has = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(is_known);
    let mut answer = if has {
        whole(StatusCode::NOT_MODIFIED, asset.content_type, "")
    } else {
        whole(StatusCode::OK, asset.content_type, asset.text)
    };
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer.headers_mut().insert(ETAG, HeaderValue::try_from(tag).expect("quotes and digits"));
    Some(answer)
}

/// Another one for each text. The same in every process of a version: behind a load balancer, any may be asked next.
fn tag(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole page is to be small: issue by issue it stays below this.
    const MOST_BYTES: usize = 150_000;

    #[test]
    fn the_page_is_small_and_asks_for_nothing_but_its_files() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
        assert!(bytes < MOST_BYTES, "{bytes} bytes");
        for asset in &ASSETS {
            for outside in ["src=\"http", "href=\"http", "src=\"//", "url(http", "import(\"http", " style=\"", "<style"]
            {
                assert!(!asset.text.contains(outside), "{}: {outside}", asset.path);
            }
        }
    }

    #[test]
    fn a_file_is_sent_once_and_again_when_it_is_another() {
        for asset in &ASSETS {
            let mut headers = HeaderMap::new();
            let first = answer(asset.path, &headers).expect("it is there");
            assert_eq!((first.status(), first.headers()[CACHE_CONTROL].as_bytes()), (StatusCode::OK, &b"no-cache"[..]));
            let tag = first.headers()[ETAG].to_str().expect("text").to_owned();
            for (known, status) in [(tag.clone(), 304), (format!("\"x\", W/{tag}"), 304), ("\"x\"".to_owned(), 200)] {
                headers.insert(IF_NONE_MATCH, HeaderValue::try_from(known).expect("a tag"));
                let again = answer(asset.path, &headers).expect("it is there");
                assert_eq!((again.status().as_u16(), &again.headers()[ETAG]), (status, &first.headers()[ETAG]));
            }
        }
        assert!(answer("/page", &HeaderMap::new()).is_none() && !is_at("/index.html"));
    }
}
