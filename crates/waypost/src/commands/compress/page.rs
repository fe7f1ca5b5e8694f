//! The page with a plot, and the plot alone: what is left of the bytes over the CPU time of a message. Nothing is loaded from
//! elsewhere.

use std::fmt::Write as _;

use super::measure::Row;

const WIDTH: f64 = 640.0;
/// For the names of the strategies, right of the plot.
const NAMES: f64 = 190.0;
const LINE: f64 = 20.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 48.0;
const BOTTOM: f64 = 44.0;
const TOP: f64 = 8.0;
const RIGHT: f64 = 12.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--rule:#d0d7de}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--rule:#30363d}}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:60rem;color:var(--ink);background:var(--paper)}
svg{width:100%;min-width:34rem;height:auto}text{fill:var(--ink);font-size:12px}
table{border-collapse:collapse;width:100%}td,th{padding:.2rem .5rem;text-align:right;border-bottom:1px solid var(--rule)}
td:first-child,th:first-child{text-align:left}.table{overflow-x:auto}td{white-space:nowrap;font-variant-numeric:tabular-nums}
.key{display:inline-block;width:1rem;height:.25rem;margin-right:.5rem;vertical-align:middle}";

const COLOURS: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--rule:#d0d7de}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--rule:#30363d}}\
svg{background:var(--paper)}text{fill:var(--ink);font:12px system-ui,sans-serif}";

/// The plot alone, as a file of its own.
pub(super) fn picture(rows: &[Row]) -> String {
    plot(rows)
        .replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1)
        .replacen(">\n", &format!("><style>{COLOURS}</style>\n"), 1)
}

/// One page with everything in it.
pub(super) fn page(said: &str, rows: &[Row]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Compress strategies</title>\
         <style>{STYLE}</style>\n<h1>Compress strategies</h1><p>{said}.</p>\n"
    );
    let _ = writeln!(page, "<div class=\"table\">{}</div>", plot(rows));
    page.push_str("<p>Lower is smaller, further left is faster.</p>\n");
    page.push_str(&figures(rows));
    page.push_str("</html>\n");
    page
}

fn colour_of(at: usize, count: usize) -> String {
    format!("hsl({} 65% 48%)", at * 360 / count.max(1))
}

/// Time is drawn by factors of ten: strategies are that far apart.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a handful of strategies, and powers of ten"
)]
fn plot(rows: &[Row]) -> String {
    let times = || {
        rows.iter()
            .map(|row| row.us_per_message().max(0.001).log10())
    };
    let first = times().fold(f64::INFINITY, f64::min).floor().min(3.0);
    let last = times()
        .fold(f64::NEG_INFINITY, f64::max)
        .ceil()
        .max(first + 1.0);
    let most = rows.iter().map(Row::ratio).fold(1.0, f64::max).min(1.5);
    let x = |time: f64| LEFT + (WIDTH - LEFT - RIGHT) * (time - first) / (last - first);
    let y = |ratio: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - ratio.min(most) / most);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"what is left over CPU time of a message\">\n",
        WIDTH + NAMES,
        HEIGHT.max(TOP + LINE * (rows.len() + 1) as f64)
    );
    for tenth in (0..=10_u32).step_by(2) {
        let ratio = f64::from(tenth) / 10.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"var(--rule)\"/>\
             <text x=\"4\" y=\"{3:.1}\">{1:.0} %</text>",
            WIDTH - RIGHT,
            ratio * 100.0,
            y(ratio),
            y(ratio) + 4.0
        );
    }
    for power in first as i32..=last as i32 {
        let time = match power {
            ..0 => format!("{} ns", 1000.0 * 10_f64.powi(power)),
            0..3 => format!("{} µs", 10_f64.powi(power)),
            _ => format!("{} ms", 10_f64.powi(power - 3)),
        };
        let anchor = if power == last as i32 {
            "end"
        } else {
            "middle"
        };
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{1}\" stroke=\"var(--rule)\"/>\
             <text x=\"{0:.1}\" y=\"{2}\" text-anchor=\"{anchor}\">{time}</text>",
            x(f64::from(power)),
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 16.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">CPU time to pack and unpack a message</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        HEIGHT - 8.0
    );
    for (at, row) in rows.iter().enumerate() {
        let colour = colour_of(at, rows.len());
        let (left, top) = (WIDTH + RIGHT, TOP + LINE * (at as f64 + 0.5));
        let (name, ratio) = (&row.strategy, row.ratio() * 100.0);
        let time = row.us_per_message();
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" fill=\"{colour}\"><title>{name}: {ratio:.1} %, {time:.1} µs</title></circle>\
             <circle cx=\"{}\" cy=\"{}\" r=\"5\" fill=\"{colour}\"/><text x=\"{}\" y=\"{}\">{name} {ratio:.1} %</text>",
            x(time.max(0.001).log10()),
            y(row.ratio()),
            left + 6.0,
            top,
            left + 18.0,
            top + 4.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn figures(rows: &[Row]) -> String {
    let mut html = "<div class=\"table\"><table><tr><th>strategy<th>messages<th>bytes in<th>bytes out<th>left<th>packed, MB/s<th>unpacked, MB/s<th>CPU a message, µs<th>USD a million<th>dictionary, bytes\n".to_owned();
    for (at, row) in rows.iter().enumerate() {
        let _ = writeln!(
            html,
            "<tr><td><span class=\"key\" style=\"background:{}\"></span>{}<td>{}<td>{}<td>{}<td>{:.2} %<td>{:.1}<td>{:.1}<td>{:.1}<td>{:.4}<td>{}",
            colour_of(at, rows.len()),
            row.strategy,
            row.messages,
            row.bytes_in,
            row.bytes_out,
            row.ratio() * 100.0,
            row.compress_mb_per_s(),
            row.decompress_mb_per_s(),
            row.us_per_message(),
            row.usd_per_million(),
            row.dictionary_bytes
        );
    }
    html.push_str("</table></div>\n");
    html
}
