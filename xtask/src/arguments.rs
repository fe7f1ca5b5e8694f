//! The few command line forms that tasks take: positional words, `--flag`, `--option VALUE`.

use std::str::FromStr;

use crate::failure::Failure;

/// What is left of the command line; each accessor takes its part out.
pub struct Arguments(Vec<String>);

impl Arguments {
    pub fn new(words: impl Iterator<Item = String>) -> Self {
        Self(words.collect())
    }

    /// Takes the first word if it is no option.
    pub fn positional(&mut self) -> Option<String> {
        let is_word = self.0.first().is_some_and(|word| !word.starts_with("--"));
        is_word.then(|| self.0.remove(0))
    }

    /// Takes the first word if it is that one.
    pub fn positional_is(&mut self, word: &str) -> bool {
        let is_word = self.0.first().is_some_and(|first| first == word);
        if is_word {
            self.0.remove(0);
        }
        is_word
    }

    /// Takes `--name` out; whether it was there.
    pub fn flag(&mut self, name: &str) -> bool {
        let position = self.0.iter().position(|word| word == name);
        position.map(|index| self.0.remove(index)).is_some()
    }

    /// Takes `--name VALUE` out.
    pub fn option<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        let Some(index) = self.0.iter().position(|word| word == name) else {
            return Ok(None);
        };
        self.0.remove(index);
        if index == self.0.len() {
            return Err(Failure::new(format!("{name} needs a value")));
        }
        let value = self.0.remove(index);
        match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Failure::new(format!("{name} does not take '{value}'"))),
        }
    }

    /// Fails if something is left that no accessor took.
    pub fn finish(self) -> Result<(), Failure> {
        match self.0.first() {
            None => Ok(()),
            Some(word) => Err(Failure::new(format!(
                "'{word}' is not understood; `cargo xtask help` shows the forms"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn takes_each_form() {
        let mut line = arguments("decode --seconds 20 --check");
        assert_eq!(line.positional().as_deref(), Some("decode"));
        assert_eq!(line.option::<u64>("--seconds").unwrap(), Some(20));
        assert_eq!(line.option::<u64>("--seed").unwrap(), None);
        assert!(line.flag("--check"));
        assert!(line.finish().is_ok());
    }

    #[test]
    fn refuses_wrong_missing_and_unknown() {
        assert!(
            arguments("--seconds many")
                .option::<u64>("--seconds")
                .is_err()
        );
        assert!(arguments("--seconds").option::<u64>("--seconds").is_err());
        assert!(arguments("--sekonds 3").finish().is_err());
    }
}
