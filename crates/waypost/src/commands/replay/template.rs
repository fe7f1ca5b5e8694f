//! Templates such as `chat/{room}`: literal text and placeholders for a record's fields.
//!
//! A placeholder's value is data, never structure: `/`, `+`, `#` and NUL in it are percent-escaped,
//! so that a user called `a/b` is one topic level and nobody's name is a wildcard. `{{` and `}}`
//! stand for the braces themselves.

use serde_json::Value;

use super::records::Record;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(String),
}

/// Why a template cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without its `}`.
    #[error("the `{{` at character {0} is never closed; write `{{{{` for a brace itself")]
    Unclosed(usize),
    /// A `}` without its `{`.
    #[error("the `}}` at character {0} closes nothing; write `}}}}` for a brace itself")]
    Unopened(usize),
    /// `{}`.
    #[error("the placeholder at character {0} names no field")]
    Empty(usize),
}

/// Why a record does not fill a template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The record has no such field.
    #[error("no field `{field}`; this record has: {}", available.join(", "))]
    Unknown {
        /// What was asked for.
        field: String,
        /// What there is.
        available: Vec<String>,
    },
    /// The field is null (in a CSV file: empty) and nothing stands in for it.
    #[error("field `{0}` is null")]
    Null(String),
    /// An object or an array does not fit into a topic or a client id.
    #[error("field `{0}` is an object or an array, not one value")]
    NotScalar(String),
}

impl Template {
    /// Reads `text`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut characters = text.chars().enumerate().peekable();
        while let Some((at, character)) = characters.next() {
            let doubled = characters
                .peek()
                .is_some_and(|&(_, next)| next == character);
            match character {
                '{' | '}' if doubled => {
                    characters.next();
                    literal.push(character);
                }
                '{' => {
                    let mut field = String::new();
                    loop {
                        match characters.next() {
                            None => return Err(TemplateError::Unclosed(at + 1)),
                            Some((_, '}')) => break,
                            Some((_, character)) => field.push(character),
                        }
                    }
                    if field.is_empty() {
                        return Err(TemplateError::Empty(at + 1));
                    }
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Field(field));
                }
                '}' => return Err(TemplateError::Unopened(at + 1)),
                _ => literal.push(character),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }

    /// Whether `field` is among the placeholders.
    pub fn uses(&self, field: &str) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Field(name) if name == field))
    }

    /// Fills the template from `record`; `null_as` may name what stands in for a null field.
    pub fn render<'a>(
        &self,
        record: &Record,
        null_as: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<String, FieldError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => out.push_str(literal),
                Part::Field(field) => match record.field(field)? {
                    Value::String(text) if !text.is_empty() => escape_into(text, &mut out),
                    Value::Number(number) => out.push_str(&number.to_string()),
                    Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
                    // An empty level or client id is as little a name as a null one, and CSV
                    // cannot tell the two apart.
                    Value::Null | Value::String(_) => match null_as(field) {
                        Some(name) => escape_into(name, &mut out),
                        None => return Err(FieldError::Null(field.clone())),
                    },
                    Value::Array(_) | Value::Object(_) => {
                        return Err(FieldError::NotScalar(field.clone()));
                    }
                },
            }
        }
        Ok(out)
    }
}

fn escape_into(value: &str, out: &mut String) {
    for character in value.chars() {
        match character {
            '/' => out.push_str("%2F"),
            '+' => out.push_str("%2B"),
            '#' => out.push_str("%23"),
            '\0' => out.push_str("%00"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: &str) -> Record {
        Record::from_json(1, json.as_bytes()).unwrap()
    }

    fn check(template: &str, json: &str, expect: &str) {
        let rendered = Template::parse(template)
            .unwrap()
            .render(&record(json), |_| Some("nobody"));
        assert_eq!(rendered.as_deref(), Ok(expect), "{template} of {json}");
    }

    #[test]
    fn placeholders_take_the_records_values() {
        check("chat/{room}", r#"{"room":"ubuntu"}"#, "chat/ubuntu");
        check("{a}{b}/x/{a}", r#"{"a":1,"b":true}"#, "1true/x/1");
        check("{price}", r#"{"price":22.2}"#, "22.2");
        check("no placeholder", "{}", "no placeholder");
        check("{{{a}}}", r#"{"a":"v"}"#, "{v}");
        check("{größe}/ö", r#"{"größe":"ü"}"#, "ü/ö");
    }

    #[test]
    fn values_cannot_add_levels_or_wildcards() {
        check(
            "u/{user}",
            r#"{"user":"a/b+c#d\u0000e%"}"#,
            "u/a%2Fb%2Bc%23d%00e%",
        );
        check("a/+/#", "{}", "a/+/#");
    }

    #[test]
    fn null_and_empty_take_the_stand_in_or_fail() {
        check("{c}", r#"{"c":null}"#, "nobody");
        check("{c}", r#"{"c":""}"#, "nobody");
        let rendered = Template::parse("{c}")
            .unwrap()
            .render(&record(r#"{"c":null}"#), |_| None);
        assert_eq!(rendered, Err(FieldError::Null("c".into())));
    }

    #[test]
    fn an_unknown_field_names_what_there_is() {
        let error = Template::parse("{rom}")
            .unwrap()
            .render(&record(r#"{"room":"x","user":"y"}"#), |_| None)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "no field `rom`; this record has: room, user"
        );
        let nested = Template::parse("{o}")
            .unwrap()
            .render(&record(r#"{"o":{}}"#), |_| None);
        assert_eq!(nested, Err(FieldError::NotScalar("o".into())));
    }

    #[test]
    fn broken_templates_say_where() {
        for (text, error) in [
            ("a/{room", TemplateError::Unclosed(3)),
            ("a}b", TemplateError::Unopened(2)),
            ("{}", TemplateError::Empty(1)),
        ] {
            assert_eq!(Template::parse(text), Err(error), "{text}");
        }
    }
}
