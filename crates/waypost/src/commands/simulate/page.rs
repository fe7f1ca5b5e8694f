//! The pages of the `simulate` commands: what was asked, plots, figures. One file each, that loads nothing from elsewhere.

use std::fmt::Write as _;

use super::plot::Plot;

/// The colours of everything, by day and by night; text in plots.
const COLOURS: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--rule:#d0d7de;--first:#0969da;--second:#8250df}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--rule:#30363d;--first:#4493f8;--second:#ab7df8}}
text{fill:var(--ink);font:12px system-ui,sans-serif}";

/// The rest of a page. What is wider than the window is moved within its own frame.
const STYLE: &str = "
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:60rem;color:var(--ink);background:var(--paper)}
.wide{overflow-x:auto}svg{width:100%;min-width:34rem;height:auto}
table{border-collapse:collapse;width:100%}td,th{padding:.2rem .5rem;text-align:right;border-bottom:1px solid var(--rule)}
td:first-child,th:first-child{text-align:left}td{white-space:nowrap;font-variant-numeric:tabular-nums}
.key{display:inline-block;width:.6rem;height:.6rem;border-radius:50%;margin-right:.5rem}";

/// Above each plot of several that stand in one picture: its heading.
const HEADING: f64 = 28.0;

/// What a simulation came to, for who would rather look than read.
pub struct Page {
    title: String,
    said: String,
    parts: Vec<Part>,
}

struct Part {
    heading: String,
    plot: Plot,
    table: Table,
}

impl Page {
    /// A page with a title, and a sentence or two on what was measured and how to read it.
    pub fn new(title: &str, said: &str) -> Self {
        Self {
            title: escaped(title),
            said: escaped(said),
            parts: Vec::new(),
        }
    }

    /// Adds a plot and its figures; the only part of a page needs no heading.
    pub fn add(&mut self, heading: &str, plot: Plot, table: Table) {
        self.parts.push(Part {
            heading: escaped(heading),
            plot,
            table,
        });
    }

    /// The page.
    pub fn to_html(&self) -> String {
        let Self { title, said, parts } = self;
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
             <style>{COLOURS}{STYLE}</style>\n<h1>{title}</h1><p>{said}</p>\n"
        );
        for part in parts {
            if !part.heading.is_empty() {
                let _ = writeln!(html, "<h2>{}</h2>", part.heading);
            }
            let Plot {
                width,
                height,
                label,
                body,
            } = &part.plot;
            let label = escaped(label);
            let _ = writeln!(
                html,
                "<div class=\"wide\"><svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">\n{body}</svg></div>"
            );
            let _ = writeln!(
                html,
                "<div class=\"wide\"><table>{}</table></div>",
                part.table.rows
            );
        }
        html.push_str("</html>\n");
        html
    }

    /// Its plots alone, one below the other.
    pub fn to_svg(&self) -> String {
        let mut body = String::new();
        let (mut width, mut height) = (0.0_f64, 0.0);
        for part in &self.parts {
            if !part.heading.is_empty() {
                let _ = writeln!(
                    body,
                    "<text x=\"0\" y=\"{:.1}\" style=\"font-weight:bold\">{}</text>",
                    height + HEADING * 0.6,
                    part.heading
                );
                height += HEADING;
            }
            let _ = writeln!(
                body,
                "<g transform=\"translate(0 {height:.1})\">\n{}</g>",
                part.plot.body
            );
            width = width.max(part.plot.width);
            height += part.plot.height;
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\
             <style>{COLOURS}svg{{background:var(--paper)}}</style>\n{body}</svg>\n",
            self.title
        )
    }
}

/// Figures, a row for each strategy.
pub struct Table {
    rows: String,
}

impl Table {
    /// A table whose columns are named.
    pub fn new(head: &[&str]) -> Self {
        let head: Vec<_> = head
            .iter()
            .map(|title| format!("<th>{}", escaped(title)))
            .collect();
        Self {
            rows: format!("<tr>{}\n", head.concat()),
        }
    }

    /// A row, with the colour that its strategy has in the plot.
    pub fn add(&mut self, colour: Option<&str>, cells: &[String]) {
        let key = colour
            .map(|colour| format!("<span class=\"key\" style=\"background:{colour}\"></span>"));
        let mut key = key.unwrap_or_default();
        self.rows.push_str("<tr>");
        for cell in cells {
            let _ = write!(self.rows, "<td>{key}{}", escaped(cell));
            key.clear();
        }
        self.rows.push('\n');
    }
}

/// A text as it stands in HTML and SVG.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(headings: &[&str]) -> Page {
        let mut page = Page::new("A & B", "of <file>");
        for heading in headings {
            let plot = Plot {
                width: 100.0,
                height: 50.0,
                label: "\"quoted\"".into(),
                body: "<line/>\n".into(),
            };
            let mut table = Table::new(&["strategy", "hits"]);
            table.add(Some("red"), &["a<b".into(), "7".into()]);
            page.add(heading, plot, table);
        }
        page
    }

    #[test]
    fn a_page_has_its_plots_and_figures_and_escapes_what_it_is_given() {
        let html = page(&["64 bytes"]).to_html();
        for part in [
            "<title>A &amp; B</title>",
            "<p>of &lt;file&gt;</p>",
            "<h2>64 bytes</h2>",
            "<svg viewBox=\"0 0 100 50\" role=\"img\" aria-label=\"&quot;quoted&quot;\">\n<line/>\n</svg>",
            "<tr><th>strategy<th>hits\n",
            "<tr><td><span class=\"key\" style=\"background:red\"></span>a&lt;b<td>7\n",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
        assert!(!html.contains("http"), "nothing is loaded: {html}");
    }

    #[test]
    fn plots_alone_stand_below_each_other() {
        let one = page(&[""]).to_svg();
        assert!(one.starts_with("<svg xmlns=") && one.contains("viewBox=\"0 0 100 50\""));
        assert!(!one.contains("<text"), "{one}");
        let two = page(&["64 bytes", "1 KiB"]).to_svg();
        for part in [
            "viewBox=\"0 0 100 156\"",
            ">64 bytes</text>",
            "translate(0 28.0)",
            "translate(0 106.0)",
        ] {
            assert!(two.contains(part), "{part}: {two}");
        }
    }
}
