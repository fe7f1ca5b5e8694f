//! What keys are called.

use std::fmt;
use std::str::FromStr;

/// Bytes of a name: a part of a file's name.
const NAME_BYTES_MAX: usize = 64;

/// The name of somebody who has keys. It is part of a file's name, so no path can hide in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

/// A text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a name: letters, digits and `_ - . @ +`, at most 64, and a letter or digit first"
)]
pub struct NotAName(pub String);

impl KeyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let is_name = text.len() <= NAME_BYTES_MAX
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.@+".contains(&byte));
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAName(text.to_owned()))
        }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        for name in ["ann", "pump-7", "ann@example.org", "7", &"n".repeat(64)] {
            assert_eq!(name.parse::<KeyName>().unwrap().as_str(), name);
        }
        let long = "n".repeat(65);
        for wrong in ["", ".ann", "-ann", "a/b", "..", "a b", "änn", "a\0", &long] {
            assert!(wrong.parse::<KeyName>().is_err(), "{wrong}");
        }
    }
}
