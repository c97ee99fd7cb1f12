//! Values of metrics, as text. What a label holds may come from outside: it is cut, and there are only so many.

use std::collections::BTreeMap;

use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};
use prometheus::{Encoder as _, TextEncoder};

use super::catalogue::{Kind, Metric};

/// So many values of a label that comes from outside have a series each. The rest is added up as `other`.
pub const MOST_SERIES: usize = 500;

/// A longer label is cut.
pub const LONGEST_LABEL: usize = 100;

/// Stands for all that are too many.
pub const OTHER: &str = "other";

/// What is told, in the order in which it was put in.
#[derive(Default)]
pub struct Exposition {
    families: Vec<MetricFamily>,
}

/// A series' labels, in the metric's order, and its value.
pub type Series<'a, const N: usize> = ([&'a str; N], f64);

impl Exposition {
    /// A metric without labels.
    pub fn one(&mut self, metric: &Metric, value: f64) {
        self.many(metric, [([], value)]);
    }

    /// The series of a metric. Without any it is left out.
    pub fn many<'a, const N: usize>(&mut self, metric: &Metric, series: impl IntoIterator<Item = Series<'a, N>>) {
        let samples = series.into_iter().map(|(labels, value)| sample(metric, &labels, value)).collect();
        self.family(metric, samples);
    }

    /// A summary for each value of its one label.
    pub fn summaries(&mut self, metric: &Metric, summaries: impl IntoIterator<Item = (String, proto::Summary)>) {
        let samples = summaries.into_iter().map(|(label, summary)| {
            let mut sample = proto::Metric::from_label(pairs(metric, &[&label]));
            sample.set_summary(summary);
            sample
        });
        let samples = samples.collect();
        self.family(metric, samples);
    }

    pub fn into_text(self) -> Vec<u8> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.families, &mut text).expect("every family has a name and a sample");
        text
    }

    fn family(&mut self, metric: &Metric, samples: Vec<proto::Metric>) {
        if samples.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(metric.name.to_owned());
        family.set_help(metric.help.to_owned());
        family.set_field_type(match metric.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Summary => MetricType::SUMMARY,
        });
        family.set_metric(samples);
        self.families.push(family);
    }
}

fn sample(metric: &Metric, labels: &[&str], value: f64) -> proto::Metric {
    let mut sample = proto::Metric::from_label(pairs(metric, labels));
    match metric.kind {
        Kind::Counter => {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            sample.set_counter(counter);
        }
        Kind::Gauge => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            sample.set_gauge(gauge);
        }
        Kind::Summary => unreachable!("a summary has more than a value"),
    }
    sample
}

fn pairs(metric: &Metric, labels: &[&str]) -> Vec<LabelPair> {
    debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    metric.labels.iter().zip(labels).map(pair).collect()
}

/// Counts by labels that come from outside: each combination once, and only so many.
pub struct Bounded<'a, const N: usize> {
    counts: BTreeMap<[&'a str; N], f64>,
    most: usize,
}

impl<'a, const N: usize> Bounded<'a, N> {
    /// With so many series, and one more for all others.
    pub fn new(most: usize) -> Self {
        Self { counts: BTreeMap::new(), most }
    }

    /// Adds to a count. `bounded` labels are those that become [`OTHER`] when there are too many.
    pub fn add(&mut self, labels: [&'a str; N], bounded: usize, count: f64) {
        let mut labels = labels.map(cut);
        if !self.counts.contains_key(&labels) && self.counts.len() >= self.most {
            labels[..bounded].fill(OTHER);
        }
        *self.counts.entry(labels).or_default() += count;
    }

    /// What was counted, in order.
    pub fn into_series(self) -> impl Iterator<Item = Series<'a, N>> {
        self.counts.into_iter()
    }
}

/// The label, as much of it as may stand.
pub fn cut(label: &str) -> &str {
    label.char_indices().nth(LONGEST_LABEL).map_or(label, |(end, _)| &label[..end])
}
