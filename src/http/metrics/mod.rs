//! The metrics, as Prometheus reads them: text, made anew of a [`Reporter`]'s answers for each scrape. Between scrapes nothing is
//! kept here and nothing costs anything.
//!
//! ```text
//! catalogue    every metric: its name, type, labels and meaning
//! exposition   values of them, as text; labels are cut, and what is too much is added up, so that nobody can flood Prometheus
//! gateway      those that spec-tacles/gateway had, under the same names
//! own          Optic's own
//! ```
//!
//! Decides nothing about paths and who may read: names and numbers, no secret.

mod catalogue;
mod exposition;
mod gateway;
mod own;

pub use self::catalogue::{Kind, METRICS, Metric};
use self::exposition::Exposition;
use crate::seen::Reporter;

/// The `Content-Type` of what is rendered.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// All metrics as text.
pub fn render(reporter: &dyn Reporter) -> Vec<u8> {
    let report = reporter.report();
    let mut exposition = Exposition::default();
    gateway::put(&report, &reporter.packets(), &mut exposition);
    own::put(&report, &mut exposition);
    exposition.into_text()
}

#[cfg(test)]
pub(super) mod tests;
