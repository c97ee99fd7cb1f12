//! What is in a chart: the curves of the samples, and the same in words.

use std::collections::HashMap;

use super::ChartKind;
use crate::seen::Sample;
use crate::seen::sample::SECONDS;

/// So many names of events have a curve of their own.
pub const NAMED: usize = 6;

/// A point in as many pixels: more would only make the picture large.
const PIXELS_A_POINT: u32 = 6;

/// Longer names are cut: they would fill the legend. Discord's longest is shorter.
const LONGEST_NAME: usize = 44;

/// A curve.
pub struct Curve {
    /// What the legend calls it.
    pub name: String,
    /// Which of the colours it has; none: grey.
    pub colour: Option<usize>,
    /// When its values were: minutes before now, negative.
    pub minutes: Vec<f64>,
    /// Its values; none: not known.
    pub values: Vec<Option<f32>>,
}

/// All that is told.
pub struct Summary {
    /// The curves; none if there is nothing to show.
    pub curves: Vec<Curve>,
    /// How much time is shown.
    pub minutes: u32,
    /// The present values, for who cannot see the picture.
    pub words: String,
}

/// What is to be told of these samples in a picture of this width.
pub fn of(kind: ChartKind, history: &[Sample], width: u32) -> Summary {
    let minutes = span(history);
    let spans = spans(history, minutes, width);
    let (curves, now) = match kind {
        ChartKind::Events => events(history, &spans),
        ChartKind::Latency => single("latency", &spans, |sample| sample.latency_ms, "ms"),
        ChartKind::Unconfirmed => single("not confirmed", &spans, unconfirmed, "messages"),
    };
    let words = match curves.as_slice() {
        [] => format!("{}.", kind.empty()),
        _ => format!("The last {minutes} minutes. {now}"),
    };
    Summary { curves, minutes, words }
}

/// Of nobody nothing is known.
fn unconfirmed(sample: &Sample) -> Option<f32> {
    (sample.heard > 0).then_some(sample.unconfirmed as f32)
}

/// How many minutes are shown: all there are, rounded up to five.
fn span(history: &[Sample]) -> u32 {
    let (Some(first), Some(last)) = (history.first(), history.last()) else { return 30 };
    let seconds = (last.at + SECONDS).saturating_sub(first.at);
    u32::try_from(seconds.div_ceil(300) * 5).unwrap_or(30).clamp(5, 30)
}

/// Neighbouring samples that are one point together.
struct Span<'a> {
    samples: &'a [Sample],
    /// Its end: minutes before now.
    at: f64,
}

/// Cuts at multiples of the length, so that the same samples stay together while time goes on: peaks must not dance.
fn spans(history: &[Sample], minutes: u32, width: u32) -> Vec<Span<'_>> {
    let Some(now) = history.last().map(|last| last.at + SECONDS) else { return Vec::new() };
    let samples = u64::from(minutes) * 60 / SECONDS;
    let length = SECONDS * (samples * u64::from(PIXELS_A_POINT)).div_ceil(u64::from(width.max(1))).max(1);
    history
        .chunk_by(|a, b| a.at / length == b.at / length)
        .map(|samples| {
            let end = samples.last().map_or(now, |last| last.at + SECONDS);
            Span { samples, at: (end as f64 - now as f64) / 60.0 }
        })
        .filter(|span| span.at >= -f64::from(minutes))
        .collect()
}

/// One curve of the largest value in each span: what was bad for five seconds only is what one looks for.
fn single(name: &str, spans: &[Span<'_>], value: impl Fn(&Sample) -> Option<f32>, unit: &str) -> (Vec<Curve>, String) {
    let most = |span: &Span<'_>| span.samples.iter().filter_map(&value).filter(|v| v.is_finite()).reduce(f32::max);
    let values: Vec<_> = spans.iter().map(most).collect();
    let Some(largest) = values.iter().flatten().copied().reduce(f32::max) else { return (Vec::new(), String::new()) };
    let now = spans.last().and_then(|span| span.samples.last()).and_then(&value);
    let now = now.map_or("not known".to_owned(), |now| format!("{} {unit}", number(now)));
    let words = format!("Now {now}; at most {} {unit}.", number(largest));
    let minutes = spans.iter().map(|span| span.at).collect();
    (vec![Curve { name: name.to_owned(), colour: Some(0), minutes, values }], words)
}

/// A curve of each of the names that came most, in alphabetical order, so that a name keeps its colour as long as the same names
/// are the largest; and one of all others.
fn events(history: &[Sample], spans: &[Span<'_>]) -> (Vec<Curve>, String) {
    let mut totals: HashMap<&str, u64> = HashMap::new();
    for (name, count) in history.iter().flat_map(|sample| &sample.events) {
        *totals.entry(name).or_default() += u64::from(*count);
    }
    totals.retain(|_, total| *total > 0);
    if totals.is_empty() {
        return (Vec::new(), String::new());
    }
    let mut names: Vec<_> = totals.into_iter().collect();
    names.sort_unstable_by(|(a, most_a), (b, most_b)| most_b.cmp(most_a).then(a.cmp(b)));
    let others = names.len() > NAMED;
    names.truncate(NAMED);
    let mut names: Vec<&str> = names.into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();

    let minutes: Vec<f64> = spans.iter().map(|span| span.at).collect();
    // Of the time in which somebody was heard; where nobody was, there is a gap.
    let seconds =
        |span: &Span<'_>| (span.samples.iter().filter(|sample| sample.heard > 0).count() as u64 * SECONDS) as f32;
    let a_second = |count: u64, span: &Span<'_>| Some(count as f32 / seconds(span)).filter(|rate| rate.is_finite());
    let mut rest: Vec<Option<f32>> = spans.iter().map(|span| a_second(all(span.samples), span)).collect();
    let mut curves: Vec<Curve> = Vec::with_capacity(NAMED + 1);
    for (colour, name) in names.iter().enumerate() {
        let rate = |span: &Span<'_>| {
            let count: u64 =
                span.samples.iter().map(|sample| u64::from(sample.events.get(*name).copied().unwrap_or(0))).sum();
            a_second(count, span)
        };
        let values: Vec<Option<f32>> = spans.iter().map(rate).collect();
        for (rest, value) in rest.iter_mut().zip(&values) {
            *rest = rest.zip(*value).map(|(rest, value)| (rest - value).max(0.0));
        }
        curves.push(Curve { name: shown(name), colour: Some(colour), minutes: minutes.clone(), values });
    }
    if others {
        curves.push(Curve { name: "other".to_owned(), colour: None, minutes, values: rest });
    }
    let last = history.last().map_or(&[][..], std::slice::from_ref);
    if last.iter().all(|sample| sample.heard == 0) {
        return (curves, "Now not known.".to_owned());
    }
    let now = number(all(last) as f32 / SECONDS as f32);
    let each = curves.iter().map(|curve| {
        let rate = curve.values.last().copied().flatten().unwrap_or(0.0);
        format!("{} {}", curve.name, number(rate))
    });
    let each: Vec<_> = each.collect();
    let words = format!("Now {now} events a second: {}.", each.join(", "));
    (curves, words)
}

fn all(samples: &[Sample]) -> u64 {
    samples.iter().flat_map(|sample| sample.events.values()).map(|count| u64::from(*count)).sum()
}

/// A name as it may stand in a picture: no control characters, which are not allowed in XML at all, and not too long.
fn shown(name: &str) -> String {
    let mut shown: String = name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if let Some((cut, _)) = shown.char_indices().nth(LONGEST_NAME) {
        shown.truncate(cut);
        shown.push('…');
    }
    shown
}

fn number(value: f32) -> String {
    if value >= 10.0 || value == value.trunc() { format!("{value:.0}") } else { format!("{value:.1}") }
}
