//! A page of records as a request asks for it: `from=last=5&filter=orders/%23&count=100`.
//!
//! Where the next page begins is said in the same words, so that who reads on needs to understand none of it.

use waypost_mqtt::Filter;
use waypost_store::streams::Start;

use super::access::{Page, PageAsk};
use super::start::From;

/// Records of a page, where the request says nothing, and at most.
const COUNT_DEFAULT: usize = 100;
const COUNT_MAX: usize = 100_000;
/// A page ends when its records have more bytes than this.
const PAGE_BYTES_MAX: u64 = 1 << 20;

impl Page {
    /// The parameters `from` and `after` of the request for the next page, after one that began there.
    pub fn next(&self, start: Start) -> String {
        match (start, self.after) {
            (Start::Each(count), Some(after)) => format!("from=each={count}&after={after}"),
            (Start::Each(count), None) => format!("from=each={count}"),
            (_, after) => format!("from=offset={}", after.map_or(0, |after| after + 1)),
        }
    }
}

/// What the parameters of a request for records say.
pub fn page_asked(query: &str, now_ms: u64) -> Result<PageAsk, String> {
    let mut ask = PageAsk {
        start: Start::Offset(0),
        after: None,
        filter: None,
        count_max: COUNT_DEFAULT,
        bytes_max: PAGE_BYTES_MAX,
    };
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = percent_decoded(value).ok_or_else(|| format!("{name}: not UTF-8"))?;
        let number = || {
            let number: Option<u64> = value.parse().ok();
            number.ok_or_else(|| format!("{name}: expected a whole number"))
        };
        match name {
            "from" => {
                let from: From = value.parse().map_err(|error| format!("from: {error}"))?;
                ask.start = from.start(now_ms);
            }
            "after" => ask.after = Some(number()?),
            "count" => {
                let count = usize::try_from(number()?).unwrap_or(usize::MAX);
                ask.count_max = count.clamp(1, COUNT_MAX);
            }
            "filter" => {
                Filter::parse(&value).map_err(|error| format!("filter: {value} {error}"))?;
                ask.filter = Some(value);
            }
            _ => return Err(format!("{name}: there are from, after, count and filter")),
        }
    }
    Ok(ask)
}

/// `%20` and so on as the bytes they stand for.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        // A sign would be taken for part of the number.
        let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        out.push(
            u8::from_str_radix(digits, 16)
                .ok()
                .filter(|_| is_hexadecimal)?,
        );
        rest = behind;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read() {
        let ask = page_asked("from=last=5&filter=a%2f%2B/%C3%BC&count=7&after=3", 0).unwrap();
        assert_eq!(
            (ask.start, ask.after, ask.filter.as_deref(), ask.count_max),
            (Start::Last(5), Some(3), Some("a/+/ü"), 7)
        );
        let ask = page_asked("", 0).unwrap();
        assert_eq!(
            (ask.start, ask.count_max),
            (Start::Offset(0), COUNT_DEFAULT)
        );
        for (count, expect) in [
            (0, 1),
            (COUNT_MAX, COUNT_MAX),
            (COUNT_MAX + 1, COUNT_MAX),
            (2 * COUNT_MAX, COUNT_MAX),
        ] {
            let ask = page_asked(&format!("count={count}"), 0).unwrap();
            assert_eq!(ask.count_max, expect);
        }
        for wrong in [
            "from=5",
            "count=x",
            "filter=a/%23/b",
            "filter=%",
            "filter=%+1",
            "filter=%ff",
            "limit=5",
        ] {
            assert!(page_asked(wrong, 0).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_next_page_is_asked_for_as_it_is_said() {
        for (start, after, expect) in [
            (Start::Last(5), Some(41), "from=offset=42"),
            (Start::Offset(0), None, "from=offset=0"),
            (Start::Each(2), Some(41), "from=each=2&after=41"),
            (Start::Each(2), None, "from=each=2"),
        ] {
            let page = Page {
                after,
                ..Page::default()
            };
            assert_eq!(page.next(start), expect);
            assert!(page_asked(expect, 0).is_ok());
        }
    }
}
