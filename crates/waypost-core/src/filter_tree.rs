//! Filters as the paths of a trie: which of them cover a topic or another filter, the most specific first.
//!
//! A filter covers another if it matches every topic that the other matches. What is placed here is a number, which
//! stands for whatever has the filter; nothing is sorted in a look-up. Not here: what the numbers stand for.

use std::ops::ControlFlow;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use waypost_mqtt::Filter;

/// Filters, each with the numbers placed under it.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilterTree {
    root: Node,
}

/// What comes after some levels. Whoever places filters bounds their levels: a walk goes as deep.
#[derive(Clone, Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, Self, FixedState>,
    plus: Option<Box<Self>>,
    /// Those whose filter ends with `#` here.
    hash: Vec<usize>,
    /// Those whose filter ends here.
    end: Vec<usize>,
}

impl FilterTree {
    /// The numbers with this filter.
    pub fn place(&mut self, filter: Filter<'_>) -> &mut Vec<usize> {
        let mut node = &mut self.root;
        for level in filter.levels() {
            node = match level {
                "#" => return &mut node.hash,
                "+" => node.plus.get_or_insert_default(),
                literal => node.literals.entry(literal.into()).or_default(),
            };
        }
        &mut node.end
    }

    /// Tells of everything that covers a topic or filter with these levels, the most specific first.
    pub fn covering<'a>(
        &self,
        levels: impl Iterator<Item = &'a str> + Clone,
        found: &mut impl FnMut(usize) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.root.walk(levels, true, found)
    }
}

impl Node {
    fn walk<'a>(
        &self,
        mut levels: impl Iterator<Item = &'a str> + Clone,
        is_root: bool,
        found: &mut impl FnMut(usize) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match levels.next() {
            None => {
                // 5 §4.7.1.2: sport/# matches sport.
                self.end
                    .iter()
                    .chain(&self.hash)
                    .try_for_each(|number| found(*number))
            }
            Some("#") => {
                // Every topic has a first level, so that +/# covers all that # does; further down a/# covers a as well,
                // and a/+/# does not.
                let plus = self.plus.as_ref().filter(|_| is_root);
                let also = plus.map_or(&[][..], |node| &node.hash);
                also.iter()
                    .chain(&self.hash)
                    .try_for_each(|number| found(*number))
            }
            Some(level) => {
                if let Some(node) = self.literals.get(level) {
                    node.walk(levels.clone(), false, found)?;
                }
                // 5 [MQTT-4.7.2-1]: a filter that begins with a wildcard is not for topics with $.
                if is_root && level.starts_with('$') {
                    return ControlFlow::Continue(());
                }
                if let Some(node) = &self.plus {
                    node.walk(levels, false, found)?;
                }
                self.hash.iter().try_for_each(|number| found(*number))
            }
        }
    }
}
