//! ARC, figure 4 of the paper: four lists, the most recent at the end. Where the paper speaks of pages, of one, it is weights.

use super::Reference;

type List = Vec<(u64, u64)>;

#[derive(Default)]
pub struct Arc {
    c: u64,
    p: u64,
    t1: List,
    t2: List,
    b1: List,
    b2: List,
}

fn size(list: &List) -> u64 {
    list.iter().map(|entry| entry.1).sum()
}

fn take(list: &mut List, key: u64) -> bool {
    let before = list.len();
    list.retain(|entry| entry.0 != key);
    list.len() < before
}

impl Arc {
    pub fn new(c: u64) -> Self {
        Self {
            c,
            ..Self::default()
        }
    }

    fn replace(&mut self, was_often: bool, gone: &mut Vec<u64>) {
        let t1 = size(&self.t1);
        let wants_t1 = !self.t1.is_empty() && ((was_often && t1 == self.p) || t1 > self.p);
        let (from, to) = if wants_t1 || self.t2.is_empty() {
            (&mut self.t1, &mut self.b1)
        } else {
            (&mut self.t2, &mut self.b2)
        };
        let entry = from.remove(0);
        gone.push(entry.0);
        if entry.1 > 0 {
            to.push(entry);
        }
    }

    fn kept(&self) -> u64 {
        size(&self.t1) + size(&self.t2)
    }

    fn all(&self) -> u64 {
        self.kept() + size(&self.b1) + size(&self.b2)
    }
}

impl Reference for Arc {
    fn get(&mut self, key: u64) -> bool {
        // Case I.
        let entry = self.t1.iter().chain(&self.t2).find(|entry| entry.0 == key);
        let Some(entry) = entry.copied() else {
            return false;
        };
        take(&mut self.t1, key);
        take(&mut self.t2, key);
        self.t2.push(entry);
        true
    }

    fn insert(&mut self, key: u64, w: u64) -> Vec<u64> {
        let mut gone = Vec::new();
        let (b1, b2) = (size(&self.b1), size(&self.b2));
        let is_often = take(&mut self.t2, key);
        take(&mut self.t1, key);
        let (was_once, was_often) = (take(&mut self.b1, key), take(&mut self.b2, key));
        if w > self.c {
            return vec![key];
        }
        if was_once {
            // Case II.
            let delta = (w * b2 / b1).max(w);
            self.p = (self.p + delta).min(self.c);
        } else if was_often {
            // Case III.
            let delta = (w * b1 / b2).max(w);
            self.p = self.p.saturating_sub(delta);
        } else if !is_often {
            // Case IV.
            while size(&self.t1) + size(&self.b1) + w > self.c {
                if self.b1.is_empty() {
                    gone.push(self.t1.remove(0).0);
                } else {
                    self.b1.remove(0);
                }
            }
            while self.all() + w > 2 * self.c && !self.b2.is_empty() {
                self.b2.remove(0);
            }
        }
        while self.kept() + w > self.c {
            self.replace(was_often, &mut gone);
        }
        if was_once || was_often || is_often {
            self.t2.push((key, w));
        } else {
            self.t1.push((key, w));
        }
        // With weights a wish may weigh more than it did.
        while self.all() > 2 * self.c && !self.b2.is_empty() {
            self.b2.remove(0);
        }
        gone
    }

    fn remove(&mut self, key: u64) -> bool {
        take(&mut self.b1, key);
        take(&mut self.b2, key);
        take(&mut self.t1, key) || take(&mut self.t2, key)
    }
}
