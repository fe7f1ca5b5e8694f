//! The page with a plot: for each load one bar a suite, its CPU time to seal a message, on a logarithmic scale. Nothing is loaded
//! from elsewhere.

use std::fmt::Write as _;

use super::Row;

const WIDTH: f64 = 720.0;
/// For the names of the suites, left of the bars.
const NAMES: f64 = 200.0;
/// For the figures, right of them.
const FIGURES: f64 = 150.0;
const LINE: f64 = 22.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--rule:#d0d7de;--seal:#0969da;--open:#8250df}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--rule:#30363d;--seal:#4493f8;--open:#ab7df8}}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:60rem;color:var(--ink);background:var(--paper)}
svg{width:100%;height:auto}text{fill:var(--ink);font-size:12px}
table{border-collapse:collapse;width:100%}td,th{padding:.2rem .5rem;text-align:right;border-bottom:1px solid var(--rule)}
td:first-child,th:first-child{text-align:left}.table{overflow-x:auto}";

/// One page with everything in it.
pub(super) fn page(rows: &[Row]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Encrypt strategies</title>\
         <style>{STYLE}</style>\n<h1>Encrypt strategies</h1>\
         <p>CPU time to seal (above) and to open (below) one message; each step to the right is ten times as much.</p>\n"
    );
    let mut loads: Vec<&str> = rows.iter().map(|row| row.load.as_str()).collect();
    loads.dedup();
    for load in loads {
        let of_load: Vec<_> = rows.iter().filter(|row| row.load == load).collect();
        let _ = writeln!(page, "<h2>{load}</h2>");
        page.push_str(&plot(load, &of_load));
        page.push_str(&figures(&of_load));
    }
    page.push_str("</html>\n");
    page
}

#[allow(clippy::cast_precision_loss, reason = "a handful of suites")]
fn plot(load: &str, rows: &[&Row]) -> String {
    let times = || rows.iter().flat_map(|row| [row.seal_us(), row.open_us()]);
    let scale = |time: f64| time.max(0.01).log10();
    let first = times().map(scale).fold(f64::INFINITY, f64::min).floor();
    let last = times().map(scale).fold(first + 1.0, f64::max).ceil();
    let length = |time: f64| (WIDTH - NAMES - FIGURES) * (scale(time) - first) / (last - first);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"CPU time of a message, {load}\">\n",
        LINE * rows.len() as f64
    );
    for (at, row) in rows.iter().enumerate() {
        let top = LINE * at as f64;
        let (seal, open) = (row.seal_us(), row.open_us());
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{:.1}\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"7\" fill=\"var(--seal)\"><title>sealed in {seal:.2} µs</title></rect>\
             <rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"7\" fill=\"var(--open)\"><title>opened in {open:.2} µs</title></rect>\
             <text x=\"{}\" y=\"{:.1}\">{seal:.2} µs, {open:.2} µs</text>",
            top + 14.0,
            row.suite,
            top + 3.0,
            length(seal).max(1.0),
            top + 11.0,
            length(open).max(1.0),
            WIDTH - FIGURES + 10.0,
            top + 14.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn figures(rows: &[&Row]) -> String {
    let mut html = "<div class=\"table\"><table><tr><th>suite<th>messages<th>sealed a second<th>opened a second<th>sealed, MB/s<th>opened, MB/s<th>longer, bytes\n".to_owned();
    for row in rows {
        let _ = writeln!(
            html,
            "<tr><td>{}<td>{}<td>{:.0}<td>{:.0}<td>{:.1}<td>{:.1}<td>{:.0}",
            row.suite,
            row.messages,
            row.seal_messages_per_s(),
            row.open_messages_per_s(),
            row.seal_mb_per_s(),
            row.open_mb_per_s(),
            row.overhead_bytes()
        );
    }
    html.push_str("</table></div>\n");
    html
}
