//! Topic Names and Topic Filters: what is one follows the rules, and matching agrees with a slow
//! matcher written from the standard's text.
//!
//! Input: a topic, a line feed, a filter.

use waypost_mqtt::{Filter, Topic};

/// Runs the target.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (name, pattern) = text.split_once('\n').unwrap_or((&text, "#"));
    let topic = Topic::parse(name);
    let is_topic = !name.is_empty() && name.len() <= 65_535 && !name.contains(['\0', '+', '#']);
    assert_eq!(topic.is_ok(), is_topic, "{name:?}");
    let filter = Filter::parse(pattern);
    assert_eq!(filter.is_ok(), is_filter(pattern), "{pattern:?}");
    let (Ok(topic), Ok(filter)) = (topic, filter) else {
        return;
    };
    assert_eq!(filter.has_wildcards(), pattern.contains(['+', '#']));
    let names: Vec<&str> = topic.levels().collect();
    let levels: Vec<&str> = filter.levels().collect();
    let is_hidden = name.starts_with('$') && pattern.starts_with(['+', '#']);
    let expect = !is_hidden && matches(&names, &levels);
    assert_eq!(filter.matches(topic), expect, "{name:?} {pattern:?}");
    if let Some(Ok((group, inner))) = filter.shared() {
        assert_eq!(format!("$share/{group}/{}", inner.as_str()), pattern);
    }
}

fn is_filter(pattern: &str) -> bool {
    let levels: Vec<&str> = pattern.split('/').collect();
    let last = levels.len() - 1;
    !pattern.is_empty()
        && pattern.len() <= 65_535
        && levels.iter().enumerate().all(|(index, &level)| {
            !level.contains('\0')
                && (level == "+" || (level == "#" && index == last) || !level.contains(['+', '#']))
        })
}

fn matches(names: &[&str], levels: &[&str]) -> bool {
    match (names.split_first(), levels.split_first()) {
        (_, Some((&"#", _))) | (None, None) => true,
        (Some((name, names)), Some((level, levels))) => {
            (*level == "+" || name == level) && matches(names, levels)
        }
        _ => false,
    }
}
