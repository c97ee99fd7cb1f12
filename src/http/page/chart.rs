//! The page's charts: the last half hour as an SVG picture, for whatever width there is.
//!
//! Text and lines of the frame are `currentColor`: they follow the page, in dark and light, and the background is the page's own.
//! Colours of series are Okabe and Ito's, which also those tell apart who see few colours. There is nothing in a picture that a
//! strict Content-Security-Policy would refuse: no script, no `style`, no reference. What names of events hold is escaped.
//!
//! Knows samples alone: no page, no process, no clock. "Now" is the end of the last sample.

mod series;

use charts_rs::{Align, Box as Margin, Color, LegendCategory, LineChart, Position, Series, Symbol, YAxisConfig};

use self::series::{Curve, Summary};
use crate::seen::Sample;
use crate::seen::sample::KEPT;

/// Pictures are as wide as this at least, and at most.
pub const WIDTHS: std::ops::RangeInclusive<u32> = 320..=1200;

/// What a chart shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChartKind {
    /// Events a second, by name: the six that come most, and all others.
    Events,
    /// From the write of a message to its confirm.
    Latency,
    /// Messages not settled.
    Unconfirmed,
}

impl ChartKind {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Events, Self::Latency, Self::Unconfirmed];

    /// As it is called in an address.
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Latency => "latency",
            Self::Unconfirmed => "unconfirmed",
        }
    }

    /// The one that is called so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Events => "Events a second by type",
            Self::Latency => "Publish latency in milliseconds",
            Self::Unconfirmed => "Messages not confirmed",
        }
    }

    fn empty(self) -> &'static str {
        match self {
            Self::Events => "No events yet",
            Self::Latency => "Nothing published yet",
            Self::Unconfirmed => "Nothing measured yet",
        }
    }
}

/// Draws a chart of these samples, oldest first. What is older than half an hour is left out.
pub fn draw(kind: ChartKind, history: &[Sample], width: u32) -> String {
    let width = width.clamp(*WIDTHS.start(), *WIDTHS.end());
    let history = &history[history.len().saturating_sub(KEPT)..];
    let Summary { curves, minutes, words } = series::of(kind, history, width);
    let chart = chart(kind, curves, minutes, width as f32);
    let svg = chart.svg().expect("all options are ours, and the one font is built in");
    // The library has no words for these.
    let svg = svg.replace(&format!("{WIDER}<"), "<");
    let svg = svg.replace(&format!("{:?}", FRAME.hex()), "\"currentColor\"").replace(">0 min<", ">now<");
    charts_rs::svg_with_accessibility(&svg, kind.title(), &words)
}

const FONT_SIZE: f32 = 12.0;

/// Height without the legend.
const HEIGHT: f32 = 200.0;

/// Behind each name of the legend while it is measured: the browser's letters may be wider than those that the library knows.
const WIDER: &str = "    ";

/// Never seen: each place that has it is given the page's own colour.
const FRAME: Color = Color { r: 0x12, g: 0x34, b: 0x56, a: 0xff };

/// Okabe and Ito's, without yellow, which is hard to see on white.
const COLOURS: [Color; series::NAMED] = [
    rgb(0x00, 0x72, 0xb2),
    rgb(0xe6, 0x9f, 0x00),
    rgb(0x00, 0x9e, 0x73),
    rgb(0xd5, 0x5e, 0x00),
    rgb(0xcc, 0x79, 0xa7),
    rgb(0x56, 0xb4, 0xe9),
];
const GREY: Color = rgb(0x8c, 0x8c, 0x8c);

const fn rgb(r: u8, g: u8, b: u8) -> Color {
    Color { r, g, b, a: 0xff }
}

fn chart(kind: ChartKind, curves: Vec<Curve>, minutes: u32, width: f32) -> LineChart {
    let legend = curves.len() > 1;
    let empty = curves.is_empty();
    let drawn = curves.into_iter().map(|curve| Series {
        name: curve.name + WIDER,
        data: curve.values,
        x_values: Some(curve.minutes),
        index: Some(curve.colour.unwrap_or(COLOURS.len())),
        stack: legend.then(|| "events".to_owned()),
        ..Series::default()
    });
    let mut chart = LineChart::new_with_theme(drawn.collect(), Vec::new(), charts_rs::THEME_LIGHT);
    chart.background_color = Color::transparent();
    chart.font_family = "system-ui, sans-serif".to_owned();
    chart.compact = true;
    (chart.width, chart.height) = (width, HEIGHT + if legend { legend_height(&chart, width) } else { 0.0 });
    chart.margin = Margin { left: 4.0, top: 10.0, right: 16.0, bottom: 2.0 };
    chart.empty_text = empty.then(|| kind.empty().to_owned());
    chart.sub_title.font.color = FRAME;

    chart.series.colors = COLOURS.into_iter().chain([GREY]).collect();
    chart.series.symbol = Some(Symbol::None);
    chart.series.stroke_width = 1.5;
    chart.series.fill = true;
    chart.series.fill_opacity = Some(if legend { 0.55 } else { 0.2 });
    chart.series.label.font.color = FRAME;

    chart.legend.show = Some(legend);
    chart.legend.position = Some(Position::Bottom);
    chart.legend.align = Align::Left;
    chart.legend.category = LegendCategory::Rect;
    chart.legend.font.size = FONT_SIZE;
    chart.legend.font.color = FRAME;

    // Words alone: lines would go through them.
    chart.grid.stroke_color = FRAME.with_alpha(if empty { 0 } else { 0x33 });
    chart.x_axis.kind = charts_rs::AxisType::Value;
    chart.x_axis.values = vec![-f64::from(minutes), 0.0];
    chart.x_axis.formatter = Some("{c} min".to_owned());
    chart.x_axis.font.size = FONT_SIZE;
    chart.x_axis.font.color = FRAME;
    chart.x_axis.stroke_color = FRAME.with_alpha(0x99);
    for axis in &mut chart.y_axis_configs {
        frame(axis, kind);
    }
    chart
}

fn frame(axis: &mut YAxisConfig, kind: ChartKind) {
    axis.font.size = FONT_SIZE;
    axis.font.color = FRAME;
    axis.split_number = 4;
    axis.min = Some(0.0);
    if kind == ChartKind::Latency {
        axis.formatter = Some("{c} ms".to_owned());
    }
}

/// So much do its rows take: names stand side by side as far as they fit.
fn legend_height(chart: &LineChart, width: f32) -> f32 {
    /// The sign before a name, and the gap behind it.
    const SIGN: f32 = 36.0;
    const ROW: f32 = FONT_SIZE + 8.0;
    let room = width - chart.margin.left - chart.margin.right;
    let (mut rows, mut used) = (1.0, 0.0);
    for series in &chart.series_list {
        let name = charts_rs::measure_text_width_family(&chart.font_family, FONT_SIZE, &series.name);
        let needed = SIGN + name.map_or(0.0, |name| name.width());
        if used > 0.0 && used + needed > room {
            (rows, used) = (rows + 1.0, 0.0);
        }
        used += needed;
    }
    rows * ROW
}

#[cfg(test)]
mod tests;
