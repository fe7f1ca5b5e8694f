//! The page with a plot: for each load two bars a suite, its CPU time to seal and to open a message, on a logarithmic scale. Nothing is loaded
//! from elsewhere.

use std::fmt::Write as _;

use super::Row;

const WIDTH: f64 = 720.0;
/// For the names of the suites, left of the bars.
const NAMES: f64 = 200.0;
/// For the figures, right of them.
const FIGURES: f64 = 140.0;
const LINE: f64 = 22.0;
/// For the scale, below them.
const SCALE: f64 = 22.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--rule:#d0d7de;--seal:#0969da;--open:#8250df}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--rule:#30363d;--seal:#4493f8;--open:#ab7df8}}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:60rem;color:var(--ink);background:var(--paper)}
svg{width:100%;min-width:34rem;height:auto}text{fill:var(--ink);font-size:12px}
table{border-collapse:collapse;width:100%}td,th{padding:.2rem .5rem;text-align:right;border-bottom:1px solid var(--rule)}
td:first-child,th:first-child{text-align:left}.table{overflow-x:auto}td{white-space:nowrap;font-variant-numeric:tabular-nums}
.seal,.open{display:inline-block;width:1.5rem;height:.5rem;margin-right:.4rem}.seal{background:var(--seal)}.open{background:var(--open);margin-left:1rem}";

/// One page with everything in it.
pub(super) fn page(rows: &[Row]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Encrypt strategies</title>\
         <style>{STYLE}</style>\n<h1>Encrypt strategies</h1>\
         <p>CPU time of one message; each step to the right is ten times as much.</p>\
         <p><span class=\"seal\"></span>to seal it<span class=\"open\"></span>to open it</p>\n"
    );
    let mut loads: Vec<&str> = rows.iter().map(|row| row.load.as_str()).collect();
    loads.dedup();
    for load in loads {
        let of_load: Vec<_> = rows.iter().filter(|row| row.load == load).collect();
        let _ = writeln!(page, "<h2>{load}</h2>");
        let _ = writeln!(page, "<div class=\"table\">{}</div>", plot(load, &of_load));
        page.push_str(&figures(&of_load));
    }
    page.push_str("</html>\n");
    page
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a handful of suites, and powers of ten"
)]
fn plot(load: &str, rows: &[&Row]) -> String {
    let times = || rows.iter().flat_map(|row| [row.seal_us(), row.open_us()]);
    let scale = |time: f64| time.max(0.01).log10();
    let first = times().map(scale).fold(f64::INFINITY, f64::min).floor();
    let last = times().map(scale).fold(first + 1.0, f64::max).ceil();
    let length = |time: f64| (WIDTH - NAMES - FIGURES) * (scale(time) - first) / (last - first);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"CPU time of a message, {load}\">\n",
        LINE * rows.len() as f64 + SCALE
    );
    let bottom = LINE * rows.len() as f64;
    for step in 0..=(last - first) as i32 {
        let time = 10_f64.powf(first + f64::from(step));
        let x = NAMES + length(time);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{bottom:.1}\" stroke=\"var(--rule)\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 15.0,
            readable(time)
        );
    }
    for (at, row) in rows.iter().enumerate() {
        let top = LINE * at as f64;
        let (seal_us, open_us) = (row.seal_us(), row.open_us());
        let (seal, open) = (readable(seal_us), readable(open_us));
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{:.1}\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"7\" fill=\"var(--seal)\"><title>sealed in {seal}</title></rect>\
             <rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"7\" fill=\"var(--open)\"><title>opened in {open}</title></rect>\
             <text x=\"{}\" y=\"{:.1}\">{seal}, {open}</text>",
            top + 14.0,
            row.suite,
            top + 3.0,
            length(seal_us).max(1.0),
            top + 11.0,
            length(open_us).max(1.0),
            WIDTH - FIGURES + 10.0,
            top + 14.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Microseconds with three digits that count, in a unit that fits.
fn readable(us: f64) -> String {
    let (number, unit) = match us {
        ..1.0 => (us * 1e3, "ns"),
        1.0..1e3 => (us, "µs"),
        1e3..1e6 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    let decimals = match number {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let text = format!("{number:.decimals$}");
    let text = match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.'),
        None => &text,
    };
    format!("{text} {unit}")
}

/// A number with a comma between each three digits.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn figures(rows: &[&Row]) -> String {
    let mut html = "<div class=\"table\"><table><tr><th>suite<th>messages<th>sealed a second<th>opened a second<th>sealed, MB/s<th>opened, MB/s<th>longer, bytes\n".to_owned();
    for row in rows {
        let _ = writeln!(
            html,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{:.1}<td>{:.1}<td>{:.0}",
            row.suite,
            row.messages,
            grouped(row.seal_messages_per_s()),
            grouped(row.open_messages_per_s()),
            row.seal_mb_per_s(),
            row.open_mb_per_s(),
            row.overhead_bytes()
        );
    }
    html.push_str("</table></div>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_counts_are_readable() {
        for (us, expect) in [
            (0.01, "10 ns"),
            (0.9, "900 ns"),
            (1.0, "1 µs"),
            (3.324, "3.32 µs"),
            (12.58, "12.6 µs"),
            (100.0, "100 µs"),
            (1041.6, "1.04 ms"),
            (36_787.0, "36.8 ms"),
            (2_000_000.0, "2 s"),
        ] {
            assert_eq!(readable(us), expect);
        }
        for (number, expect) in [
            (7.0, "7"),
            (999.4, "999"),
            (1000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(grouped(number), expect);
        }
    }
}
