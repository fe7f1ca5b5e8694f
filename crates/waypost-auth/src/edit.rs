//! A users file being changed by a program: what people wrote around it stays as it is.

use core::fmt;

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value, value};

use crate::file::{Problem, Problems, certificate, unfit};
use crate::password::PasswordHash;
use crate::rules::Rules;

/// What a new file begins with.
const HEADER: &str = "\
# Who may log in to Waypost, and what they may do.
# Change it with `waypost users`, or by hand and then SIGHUP: docs/users.md says how.

";

/// The text of a users file, to be changed.
#[derive(Clone, Debug)]
pub struct UsersText(DocumentMut);

/// A user as it stands in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedUser {
    /// The user name.
    pub name: String,
    /// Whether it has a password.
    pub has_password: bool,
    /// The certificate names it may come with.
    pub certificate: Vec<String>,
    /// What it may publish and subscribe to.
    pub allow: Vec<String>,
    /// What it may publish.
    pub publish: Vec<String>,
    /// What it may subscribe to.
    pub subscribe: Vec<String>,
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The name is taken.
    #[error("there is a user \"{0}\" already")]
    Exists(String),
    /// There is no such user.
    #[error("there is no user \"{name}\"{}", nearest.as_ref().map_or_else(String::new, |nearest| format!("; did you mean {nearest}?")))]
    Missing {
        /// As it was given.
        name: String,
        /// A user there is.
        nearest: Option<String>,
    },
    /// The name cannot be a user's.
    #[error("\"{name}\" cannot be a user name: {why}")]
    Unfit {
        /// As it was given.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// The certificate name is none.
    #[error("certificate \"{text}\": {why}")]
    Certificate {
        /// As it was given.
        text: String,
        /// Why.
        why: String,
    },
    /// The file would not be right afterwards.
    #[error("{0}")]
    Wrong(String),
}

impl UsersText {
    /// Takes the text of a users file, which must be right.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        text.parse::<Rules>()?;
        let document = text.parse().map_err(|error: toml_edit::TomlError| {
            Problems(vec![Problem {
                line: 1,
                message: error.message().to_owned(),
            }])
        })?;
        Ok(Self(document))
    }

    /// Whether there can be another user, of that name.
    pub fn check_new(&self, name: &str) -> Result<(), EditError> {
        if let Some(why) = unfit(name) {
            let name = name.to_owned();
            return Err(EditError::Unfit { name, why });
        }
        match self.find(name) {
            Ok(_) => Err(EditError::Exists(name.to_owned())),
            Err(_) => Ok(()),
        }
    }

    /// The user of that name.
    pub fn find(&self, name: &str) -> Result<ListedUser, EditError> {
        let mut users = self.list().into_iter();
        users
            .find(|user| user.name == name)
            .ok_or_else(|| self.missing(name))
    }

    /// Adds a user with what it may do.
    pub fn add(
        &mut self,
        user: &ListedUser,
        password: Option<&PasswordHash>,
    ) -> Result<(), EditError> {
        self.check_new(&user.name)?;
        for text in &user.certificate {
            certificate(text).map_err(|why| EditError::Certificate {
                text: text.clone(),
                why,
            })?;
        }
        let mut table = Table::new();
        table.insert("name", value(&user.name));
        if let Some(password) = password {
            table.insert("password", value(password.as_str()));
        }
        for (key, texts) in [
            ("certificate", &user.certificate),
            ("allow", &user.allow),
            ("publish", &user.publish),
            ("subscribe", &user.subscribe),
        ] {
            if !texts.is_empty() {
                table.insert(
                    key,
                    value(texts.iter().map(String::as_str).collect::<Array>()),
                );
            }
        }
        let mut after = self.clone();
        after.append(table);
        after.check()?;
        *self = after;
        Ok(())
    }

    /// Gives a user another password.
    pub fn set_password(&mut self, name: &str, password: &PasswordHash) -> Result<(), EditError> {
        let missing = self.missing(name);
        let table = self.table(name).ok_or(missing)?;
        if let Some(old) = table.get_mut("password").and_then(Item::as_value_mut) {
            let decor = old.decor().clone();
            *old = Value::from(password.as_str());
            *old.decor_mut() = decor;
        } else {
            table.insert("password", value(password.as_str()));
        }
        self.check()
    }

    /// Takes a user away, and its name out of every permission. A permission for nobody else goes too.
    pub fn remove(&mut self, name: &str) -> Result<(), EditError> {
        let missing = self.missing(name);
        let users = self.tables("user").ok_or(missing.clone())?;
        let at = users
            .iter()
            .position(|table| name_of(table) == Some(name))
            .ok_or(missing)?;
        let mut above = users
            .get(at)
            .filter(|_| at == 0)
            .map_or_else(String::new, comment_of_the_file);
        users.remove(at);
        if let Some(next) = users.get_mut(0).filter(|_| at == 0) {
            put_above(next, &std::mem::take(&mut above));
        }
        if users.is_empty() {
            self.0.remove("user");
        }
        if let Some(permissions) = self.tables("permission") {
            permissions.retain(|table| !is_only_for(table, name));
            for table in permissions.iter_mut() {
                if let Some(names) = table.get_mut("user").and_then(Item::as_array_mut) {
                    names.retain(|other| other.as_str() != Some(name));
                }
            }
            if let Some(first) = permissions.get_mut(0) {
                put_above(first, &std::mem::take(&mut above));
            }
            if permissions.is_empty() {
                self.0.remove("permission");
            }
        }
        if !above.is_empty() {
            let trailing = self.0.trailing().as_str().unwrap_or_default().to_owned();
            self.0.set_trailing(above + &trailing);
        }
        self.check()
    }

    /// Every user, in the order of the file.
    pub fn list(&self) -> Vec<ListedUser> {
        let texts = |table: &Table, key: &str| match table.get(key) {
            Some(item) if item.is_str() => item.as_str().map(str::to_owned).into_iter().collect(),
            Some(item) => item
                .as_array()
                .into_iter()
                .flat_map(Array::iter)
                .filter_map(|text| text.as_str().map(str::to_owned))
                .collect(),
            None => Vec::new(),
        };
        let tables = self.0.get("user").and_then(Item::as_array_of_tables);
        let tables = tables.into_iter().flat_map(ArrayOfTables::iter);
        tables
            .map(|table| ListedUser {
                name: name_of(table).unwrap_or_default().to_owned(),
                has_password: table.contains_key("password"),
                certificate: texts(table, "certificate"),
                allow: texts(table, "allow"),
                publish: texts(table, "publish"),
                subscribe: texts(table, "subscribe"),
            })
            .collect()
    }

    fn tables(&mut self, section: &str) -> Option<&mut ArrayOfTables> {
        self.0
            .get_mut(section)
            .and_then(Item::as_array_of_tables_mut)
    }

    fn table(&mut self, name: &str) -> Option<&mut Table> {
        let mut tables = self.tables("user")?.iter_mut();
        tables.find(|table| name_of(table) == Some(name))
    }

    fn missing(&self, name: &str) -> EditError {
        let names: Vec<String> = self.list().into_iter().map(|user| user.name).collect();
        EditError::Missing {
            name: name.to_owned(),
            nearest: crate::file::nearest(name, names.iter().map(String::as_str))
                .map(str::to_owned),
        }
    }

    fn append(&mut self, mut table: Table) {
        if self.0.is_empty() {
            // The comments of a file that has nothing else stand behind everything: they are to stay in front.
            let comments = self.0.trailing().as_str().unwrap_or_default().to_owned();
            self.0.set_trailing("");
            let above = if comments.trim().is_empty() {
                HEADER.to_owned()
            } else {
                comments
            };
            table.decor_mut().set_prefix(above);
        } else {
            table.decor_mut().set_prefix("\n");
        }
        let users = self
            .0
            .entry("user")
            .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        if let Some(users) = users.as_array_of_tables_mut() {
            users.push(table);
        }
    }

    fn check(&self) -> Result<(), EditError> {
        let wrong = |Problems(problems): Problems| {
            let messages = problems.into_iter().map(|problem| problem.message);
            EditError::Wrong(messages.collect::<Vec<_>>().join("\n"))
        };
        self.to_string().parse::<Rules>().map(drop).map_err(wrong)
    }
}

impl fmt::Display for UsersText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

fn name_of(table: &Table) -> Option<&str> {
    table.get("name")?.as_str()
}

fn is_only_for(table: &Table, name: &str) -> bool {
    match table.get("user") {
        Some(item) if item.is_str() => item.as_str() == Some(name),
        Some(item) => item
            .as_array()
            .is_some_and(|names| names.iter().all(|other| other.as_str() == Some(name))),
        None => false,
    }
}

/// What stands above the first table and is the file's: everything up to the last empty line.
fn comment_of_the_file(first: &Table) -> String {
    let above = first
        .decor()
        .prefix()
        .and_then(|prefix| prefix.as_str())
        .unwrap_or_default();
    above
        .rfind("\n\n")
        .and_then(|at| above.get(..at + 2))
        .unwrap_or_default()
        .to_owned()
}

fn put_above(table: &mut Table, text: &str) {
    if text.is_empty() {
        return;
    }
    let prefix = table
        .decor()
        .prefix()
        .and_then(|prefix| prefix.as_str())
        .unwrap_or_default();
    let prefix = format!("{text}{}", prefix.trim_start_matches('\n'));
    table.decor_mut().set_prefix(prefix);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::cheap;

    fn user(name: &str, allow: &[&str]) -> ListedUser {
        ListedUser {
            name: name.to_owned(),
            allow: allow.iter().map(|text| (*text).to_owned()).collect(),
            ..ListedUser::default()
        }
    }

    #[test]
    fn a_file_grows_and_shrinks() {
        let hash = cheap("secret");
        let mut text = UsersText::parse("").unwrap();
        text.add(&user("alice", &["chat/#"]), Some(&hash)).unwrap();
        let alice = format!(
            "{HEADER}[[user]]\nname = \"alice\"\npassword = \"{}\"\nallow = [\"chat/#\"]\n",
            hash.as_str()
        );
        assert_eq!(text.to_string(), alice);
        let sensor = ListedUser {
            certificate: vec!["cn=sensor-7".to_owned()],
            publish: vec!["sensors/%u/#".to_owned(), "x".to_owned()],
            subscribe: vec!["orders".to_owned()],
            ..user("sensor \"7\"", &[])
        };
        text.add(&sensor, None).unwrap();
        let both = format!(
            "{alice}\n[[user]]\nname = 'sensor \"7\"'\ncertificate = [\"cn=sensor-7\"]\n\
             publish = [\"sensors/%u/#\", \"x\"]\nsubscribe = [\"orders\"]\n"
        );
        assert_eq!(text.to_string(), both);
        let listed = text.list();
        assert_eq!(
            listed,
            [
                ListedUser {
                    has_password: true,
                    ..user("alice", &["chat/#"])
                },
                sensor
            ]
        );
        text.remove("sensor \"7\"").unwrap();
        assert_eq!(text.to_string(), alice);
        text.remove("alice").unwrap();
        assert_eq!(text.to_string(), HEADER);
        assert!(text.to_string().parse::<Rules>().unwrap().is_open());
        text.add(&user("alice", &["chat/#"]), Some(&hash)).unwrap();
        assert_eq!(text.to_string(), alice);
    }

    #[test]
    fn what_people_wrote_stays() {
        let (old, new) = (cheap("old"), cheap("new"));
        let before = format!(
            "# The file's.\n\n# Alice's.\n[[user]]\nname = 'alice'   # the first\npassword = \"{}\" # old\n\n\
             # Bob's.\n[[user]]\nname = \"bob\"\ncertificate = \"cn=bob\"\n\n\
             # For both.\n[[permission]]\nuser = [ \"alice\", \"bob\" ]\nallow = \"a\"\n\n\
             # For alice.\n[[permission]]\nuser = \"alice\"\nallow = \"b\"\n# The end.\n",
            old.as_str()
        );
        let mut text = UsersText::parse(&before).unwrap();
        assert_eq!(text.to_string(), before);
        text.set_password("alice", &new).unwrap();
        let changed = before.replace(old.as_str(), new.as_str());
        assert_eq!(text.to_string(), changed);
        text.remove("alice").unwrap();
        assert_eq!(
            text.to_string(),
            "# The file's.\n\n# Bob's.\n[[user]]\nname = \"bob\"\ncertificate = \"cn=bob\"\n\n\
             # For both.\n[[permission]]\nuser = [ \"bob\" ]\nallow = \"a\"\n# The end.\n"
        );
        text.set_password("bob", &new).unwrap();
        assert!(text.list()[0].has_password);
        text.remove("bob").unwrap();
        assert_eq!(text.to_string(), "# The file's.\n\n# The end.\n");
    }

    #[test]
    fn a_change_that_cannot_be_made_changes_nothing() {
        let hash = cheap("secret");
        let mut text = UsersText::parse("").unwrap();
        text.add(&user("alice", &[]), Some(&hash)).unwrap();
        let before = text.to_string();
        let certificate = |certificate: &str| ListedUser {
            certificate: vec![certificate.to_owned()],
            ..user("bob", &[])
        };
        for (user, hash, expect) in [
            (
                user("alice", &[]),
                Some(&hash),
                "there is a user \"alice\" already",
            ),
            (
                user("", &[]),
                Some(&hash),
                "\"\" cannot be a user name: a user name has at least one character",
            ),
            (
                user("a\nb", &[]),
                Some(&hash),
                "\"a\nb\" cannot be a user name: a user name has no control characters",
            ),
            (
                user("bob", &["a+"]),
                Some(&hash),
                "user.allow = \"a+\" has a + that does not fill its level",
            ),
            (
                certificate("bob"),
                None,
                "certificate \"bob\": expected kind=value, for example \"cn=alice\"",
            ),
            (
                user("bob", &[]),
                None,
                "user bob has no password and no certificate, so nobody can log in as bob: `waypost users passwd bob`",
            ),
        ] {
            assert_eq!(text.add(&user, hash).unwrap_err().to_string(), expect);
        }
        let missing = "there is no user \"alcie\"; did you mean alice?";
        assert_eq!(text.remove("alcie").unwrap_err().to_string(), missing);
        assert_eq!(
            text.set_password("alcie", &hash).unwrap_err().to_string(),
            missing
        );
        assert_eq!(text.to_string(), before);
        let mut nobody = UsersText::parse("").unwrap();
        assert_eq!(
            nobody.remove("x").unwrap_err().to_string(),
            "there is no user \"x\""
        );
        assert!(UsersText::parse("[[usr]]\n").is_err());
    }
}
