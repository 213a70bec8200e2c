//! The chart: a panel per scenario, a bar per peer, as long as its share of the best.

use std::fmt::Write;

use serde_json::Value;

use crate::{
    peers::PEERS,
    results::{Results, number},
    scenarios::{SCENARIOS, Scenario},
};

/// An SVG of all scenarios that have a rate.
pub fn svg(rows: &[Value]) -> String {
    let all = Results(rows);
    let panels: Vec<_> = SCENARIOS
        .iter()
        .filter_map(|scenario| Panel::new(&all, scenario))
        .collect();
    let mut heights = [0; COLUMNS];
    let mut body = String::new();
    for panel in &panels {
        // The next panel goes where there is most room.
        let column = if heights[1] < heights[0] { 1 } else { 0 };
        panel.draw(
            &mut body,
            MARGIN + column as u32 * PANEL_WIDTH,
            MARGIN + heights[column],
        );
        heights[column] += panel.height();
    }
    let width = 2 * MARGIN + COLUMNS as u32 * PANEL_WIDTH;
    let height = 2 * MARGIN + heights[0].max(heights[1]);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

struct Panel {
    title: &'static str,
    unit: &'static str,
    /// Best first.
    bars: Vec<(&'static str, f64)>,
}

impl Panel {
    /// None if nobody was measured, or if the figure is no rate.
    fn new(all: &Results<'_>, scenario: &Scenario) -> Option<Self> {
        let unit = scenario.kind.unit()?;
        let bar = |label| Some((label, all.median(scenario.name, label, scenario.field())?));
        let mut bars: Vec<_> = PEERS.iter().filter_map(|peer| bar(peer.label)).collect();
        bars.sort_by(|one, other| other.1.total_cmp(&one.1));
        (!bars.is_empty()).then_some(Self {
            title: scenario.title,
            unit,
            bars,
        })
    }

    fn height(&self) -> u32 {
        TITLE + self.bars.len() as u32 * BAR + MARGIN
    }

    fn draw(&self, out: &mut String, left: u32, top: u32) {
        let _ = writeln!(
            out,
            "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\" fill=\"#222\">{} ({})</text>",
            top + 14,
            self.title,
            self.unit
        );
        let best = self.bars[0].1;
        for (index, (label, value)) in self.bars.iter().enumerate() {
            let y = top + TITLE + index as u32 * BAR;
            let length = (value / best * f64::from(BAR_WIDTH)).max(1.0);
            let text = y + 13;
            let start = left + LABEL_WIDTH;
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\" fill=\"#222\">{label}</text>\n\
                 <rect x=\"{start}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"{}\"/>\n\
                 <text x=\"{:.1}\" y=\"{text}\" fill=\"#222\">{}</text>",
                start - 6,
                y + 2,
                BAR - 4,
                color(label),
                f64::from(start) + length + 5.0,
                number(Some(*value)),
            );
        }
    }
}

fn color(label: &str) -> &'static str {
    match label {
        "rpc" | "rpc-unix" => "#d9480f",
        _ if label.starts_with('L') => "#c5ccd3",
        _ => "#4c7ea8",
    }
}

const COLUMNS: usize = 2;
const MARGIN: u32 = 16;
const PANEL_WIDTH: u32 = 500;
const LABEL_WIDTH: u32 = 110;
const BAR_WIDTH: u32 = 300;
const TITLE: u32 = 24;
const BAR: u32 = 18;
