//! The users file: TOML that people read and write.
//!
//! ```toml
//! [[user]]
//! name = "alice"
//! password = "$argon2id$…"       # written by `waypost users passwd alice`
//! certificate = ["cn=alice"]     # or a name in a client certificate
//! allow = ["chat/#"]             # to publish and to subscribe
//! publish = ["inbox/+/%u"]
//! subscribe = ["inbox/%u/#"]
//!
//! [[permission]]                 # for several users, or by client id and address
//! user = ["alice", "bob"]
//! client_id = ["phone-*"]
//! address = ["10.0.0.0/8"]
//! subscribe = ["news/#"]
//! ```

use core::fmt;
use core::net::IpAddr;
use core::ops::Range;
use core::str::FromStr;

use ipnet::IpNet;
use toml_edit::{Document, Item, Key, Table};

use crate::password::PasswordHash;
use crate::pattern::Pattern;
use crate::rules::{ClientIds, Permission, Rules, User, Users};

/// A user name has at most this many bytes.
const NAME_BYTES_MAX: usize = 1_024;
/// In `user`: everybody with a name.
const ANY_USER: &str = "*";
/// The kinds of names a certificate has.
const CERTIFICATE_KINDS: &[&str] = &["cn", "dns", "email", "uri", "sha256"];
const SECTIONS: &[&str] = &["user", "permission"];
const USER_KEYS: &[&str] = &[
    "name",
    "password",
    "certificate",
    "allow",
    "publish",
    "subscribe",
];
const PERMISSION_KEYS: &[&str] = &[
    "user",
    "client_id",
    "address",
    "allow",
    "publish",
    "subscribe",
];

/// One thing that is wrong with a users file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line it is on; lines count from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// All that is wrong with a users file, at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { line, message }) in self.0.iter().enumerate() {
            let end = if index > 0 { "\n" } else { "" };
            write!(formatter, "{end}line {line}: {message}")?;
        }
        Ok(())
    }
}

impl core::error::Error for Problems {}

impl FromStr for Rules {
    type Err = Problems;

    /// Reads a users file. Those without a name may come in only if it names no user
    /// ([`Rules::with_anonymous`] says otherwise).
    fn from_str(text: &str) -> Result<Self, Problems> {
        let mut reading = Reading {
            text,
            rules: Self::default(),
            named: Vec::new(),
            problems: Vec::new(),
        };
        match Document::parse(text) {
            Ok(document) => reading.read(document.as_table()),
            Err(error) => {
                let message = format!("not valid TOML: {}", error.message().replace('\n', "; "));
                reading.problem(error.span(), message);
            }
        }
        reading.finish()
    }
}

/// A file on its way to rules, and what was found wrong so far.
struct Reading<'a> {
    text: &'a str,
    rules: Rules,
    /// Users named in permissions, and where: they may come later in the file.
    named: Vec<(String, Place)>,
    problems: Vec<Problem>,
}

type Place = Option<Range<usize>>;

impl Reading<'_> {
    fn problem(&mut self, place: Place, message: impl Into<String>) {
        let start = place.unwrap_or_default().start;
        let before = self.text.get(..start).unwrap_or(self.text);
        self.problems.push(Problem {
            line: before.matches('\n').count() + 1,
            message: message.into(),
        });
    }

    fn finish(mut self) -> Result<Rules, Problems> {
        for (name, place) in std::mem::take(&mut self.named) {
            if !self.rules.users.contains_key(&*name) {
                let users = self.rules.users.keys().map(|name| &**name);
                let hint = nearest(&name, users).map_or_else(
                    || "add it with `waypost users add`".to_owned(),
                    |nearest| format!("did you mean {nearest}?"),
                );
                self.problem(place, format!("there is no user \"{name}\"; {hint}"));
            }
        }
        if self.problems.is_empty() {
            return Ok(self.rules.with_anonymous(None));
        }
        self.problems.sort_by_key(|problem| problem.line);
        Err(Problems(self.problems))
    }

    fn read(&mut self, root: &Table) {
        for (key, item) in in_order(root) {
            let section = key.get();
            if !SECTIONS.contains(&section) {
                let nearest = nearest(section, SECTIONS.iter().copied()).unwrap_or_default();
                let message = format!("unknown section [[{section}]]; did you mean [[{nearest}]]?");
                self.problem(key.span(), message);
                continue;
            }
            let Item::ArrayOfTables(tables) = item else {
                let message = format!("write each {section} under a line [[{section}]]");
                self.problem(key.span(), message);
                continue;
            };
            for table in tables {
                if section == "user" {
                    self.read_user(table);
                } else {
                    self.read_permission(table);
                }
            }
        }
    }

    fn read_user(&mut self, table: &Table) {
        self.check_keys("user", table, USER_KEYS);
        let Some((name, place)) = self.text_of(table, "user", "name") else {
            if !table.contains_key("name") {
                self.problem(table.span(), "this user has no name: add name = \"…\"");
            }
            return;
        };
        if let Some(message) = unfit(&name) {
            self.problem(place, format!("user.name = \"{name}\": {message}"));
            return;
        }
        let mut user = User::default();
        if let Some((text, place)) = self.text_of(table, "user", "password") {
            match PasswordHash::parse(&text) {
                Ok(hash) => user.password = Some(hash),
                // The value is not repeated: it may be a password.
                Err(error) => self.problem(place, format!("user.password of {name} {error}")),
            }
        }
        for (text, place) in self.texts_of(table, "user", "certificate") {
            match certificate(&text) {
                Ok(certificate) => {
                    let taken = self
                        .rules
                        .certificates
                        .insert(certificate.clone(), (*name).into());
                    if let Some(other) = taken {
                        let message = format!(
                            "certificate \"{text}\" is {other}'s already: one certificate is one user"
                        );
                        self.problem(place, message);
                    }
                    user.certificates.push(certificate);
                }
                Err(message) => {
                    self.problem(place, format!("user.certificate = \"{text}\": {message}"));
                }
            }
        }
        if !table.contains_key("password") && !table.contains_key("certificate") {
            let message = format!(
                "user {name} has no password and no certificate, so nobody can log in as {name}: \
                 `waypost users passwd {name}`"
            );
            self.problem(place.clone(), message);
        }
        if self.rules.users.insert((*name).into(), user).is_some() {
            self.problem(place, format!("there are two users \"{name}\""));
        }
        let mut permission = Permission {
            users: Users::Named(vec![(*name).into()]),
            ..Permission::default()
        };
        self.read_filters(table, "user", &mut permission);
        if !permission.publish.is_empty() || !permission.subscribe.is_empty() {
            self.rules.add(permission);
        }
    }

    fn read_permission(&mut self, table: &Table) {
        const SECTION: &str = "permission";
        self.check_keys(SECTION, table, PERMISSION_KEYS);
        let mut permission = Permission::default();
        let users = self.texts_of(table, SECTION, "user");
        if users.iter().any(|(name, _)| name == ANY_USER) {
            permission.users = Users::Known;
        } else if table.contains_key("user") {
            let names = users.iter().map(|(name, _)| name.as_str().into());
            permission.users = Users::Named(names.collect());
            self.named.extend(users);
        }
        for (text, place) in self.texts_of(table, SECTION, "client_id") {
            permission.client_ids.push(match text.strip_suffix('*') {
                Some(beginning) => ClientIds::Beginning(beginning.into()),
                None => ClientIds::One((*text).into()),
            });
            if text.trim_end_matches('*').contains('*') || text.is_empty() {
                let message = format!(
                    "permission.client_id = \"{text}\": a client id, or its beginning and then *"
                );
                self.problem(place, message);
            }
        }
        for (text, place) in self.texts_of(table, SECTION, "address") {
            match network(&text) {
                Some(network) => permission.addresses.push(network),
                None => self.problem(
                    place,
                    format!("permission.address = \"{text}\": expected an address or a network, for example \"10.0.0.0/8\""),
                ),
            }
        }
        self.read_filters(table, SECTION, &mut permission);
        if permission.publish.is_empty() && permission.subscribe.is_empty() {
            if ["allow", "publish", "subscribe"]
                .iter()
                .all(|key| !table.contains_key(key))
            {
                let message = "this permission allows nothing: add allow, publish or subscribe";
                self.problem(table.span(), message);
            }
            return;
        }
        self.rules.add(permission);
    }

    fn read_filters(&mut self, table: &Table, section: &str, permission: &mut Permission) {
        for key in ["allow", "publish", "subscribe"] {
            for (text, place) in self.texts_of(table, section, key) {
                match Pattern::parse(&text) {
                    Ok(pattern) => {
                        if key != "subscribe" {
                            permission.publish.push(pattern.clone());
                        }
                        if key != "publish" {
                            permission.subscribe.push(pattern);
                        }
                    }
                    Err(error) => {
                        self.problem(place, format!("{section}.{key} = \"{text}\" {error}"));
                    }
                }
            }
        }
    }

    fn check_keys(&mut self, section: &str, table: &Table, known: &[&str]) {
        for (key, _) in in_order(table) {
            let name = key.get();
            if !known.contains(&name) {
                let nearest = nearest(name, known.iter().copied()).unwrap_or_default();
                let message = format!("unknown key {section}.{name}; did you mean {nearest}?");
                self.problem(key.span(), message);
            }
        }
    }

    fn text_of(&mut self, table: &Table, section: &str, key: &str) -> Option<(String, Place)> {
        let item = table.get(key)?;
        if let Some(text) = item.as_str() {
            return Some((text.to_owned(), item.span()));
        }
        self.problem(
            item.span(),
            format!("{section}.{key}: expected a text in quotes"),
        );
        None
    }

    /// One text or a list of them. An empty list says less than it seems to.
    fn texts_of(&mut self, table: &Table, section: &str, key: &str) -> Vec<(String, Place)> {
        let Some(item) = table.get(key) else {
            return Vec::new();
        };
        if let Some(text) = item.as_str() {
            return vec![(text.to_owned(), item.span())];
        }
        let texts: Option<Vec<_>> = item.as_array().and_then(|items| {
            let texts = items
                .iter()
                .map(|value| Some((value.as_str()?.to_owned(), value.span())));
            texts.collect()
        });
        match texts {
            Some(texts) if texts.is_empty() => {
                let message = format!("{section}.{key} is an empty list: leave the key out");
                self.problem(item.span(), message);
                texts
            }
            Some(texts) => texts,
            None => {
                let message =
                    format!("{section}.{key}: expected a text in quotes, or a list of them");
                self.problem(item.span(), message);
                Vec::new()
            }
        }
    }
}

/// Why a text is no user name.
pub(crate) fn unfit(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("a user name has at least one character")
    } else if name.len() > NAME_BYTES_MAX {
        Some("a user name has at most 1024 bytes")
    } else if name == ANY_USER {
        Some("in permissions, \"*\" is every user")
    } else if name.chars().any(char::is_control) {
        Some("a user name has no control characters")
    } else {
        None
    }
}

/// A certificate's name as the doors give it: `kind=value`, fingerprints in lower case without colons.
pub(crate) fn certificate(text: &str) -> Result<Box<str>, String> {
    let expected = || "expected kind=value, for example \"cn=alice\"".to_owned();
    let (kind, value) = text.split_once('=').ok_or_else(expected)?;
    if value.is_empty() {
        return Err(expected());
    }
    let Some(kind) = CERTIFICATE_KINDS
        .iter()
        .find(|known| kind.eq_ignore_ascii_case(known))
    else {
        let nearest = nearest(kind, CERTIFICATE_KINDS.iter().copied()).unwrap_or_default();
        return Err(format!("unknown kind {kind}; did you mean {nearest}?"));
    };
    if *kind != "sha256" {
        return Ok(format!("{kind}={value}").into());
    }
    let hex = value.replace(':', "").to_ascii_lowercase();
    if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(format!("sha256={hex}").into())
    } else {
        Err("a SHA-256 fingerprint has 64 hexadecimal digits".to_owned())
    }
}

fn network(text: &str) -> Option<IpNet> {
    let address = || {
        text.parse::<IpAddr>()
            .ok()
            .map(|address| IpNet::from(address.to_canonical()))
    };
    text.parse().ok().or_else(address)
}

/// The entries as they stand in the file: mistakes are told from the top.
fn in_order(table: &Table) -> Vec<(&Key, &Item)> {
    let mut entries: Vec<_> = table
        .iter()
        .filter_map(|(name, _)| table.get_key_value(name))
        .collect();
    entries.sort_by_key(|(key, _)| key.span().unwrap_or_default().start);
    entries
}

/// The candidate that a mistyped name was probably meant to be.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let name: String = name.chars().take(64).flat_map(char::to_lowercase).collect();
    candidates.min_by_key(|candidate| (strsim::damerau_levenshtein(&name, candidate), *candidate))
}

#[cfg(test)]
mod tests {
    use waypost_core::Action::{Publish, PublishRetained, Subscribe, Will, WillFires};
    use waypost_core::{Action, Who};

    use super::*;
    use crate::password::cheap;

    fn problems(text: &str) -> String {
        text.parse::<Rules>().unwrap_err().to_string()
    }

    fn sample() -> Rules {
        let hash = cheap("secret");
        let text = format!(
            r#"
# people
[[user]]
name = "alice"
password = "{}"
allow = ["chat/#"]
publish = "inbox/+/%u"

[[user]]
name = "sensor 7"
certificate = ["CN=sensor-7", "sha256=AB:CD:{}"]

[[permission]]
user = ["sensor 7"]
client_id = ["s-*", "test"]
address = ["10.0.0.0/8", "::1"]
publish = ["sensors/%c/#"]

[[permission]]
user = "*"
subscribe = "news/#"
"#,
            hash.as_str(),
            "0f".repeat(30)
        );
        text.parse().unwrap()
    }

    #[test]
    fn a_file_is_read() {
        let rules = sample();
        assert_eq!((rules.user_count(), rules.permission_count()), (2, 3));
        assert!(!rules.anonymous && !rules.is_open());
        let fingerprint = format!("sha256=abcd{}", "0f".repeat(30));
        assert_eq!(
            &**rules.certificates.get(&*fingerprint).unwrap(),
            "sensor 7"
        );
        assert_eq!(
            &**rules.certificates.get("cn=sensor-7").unwrap(),
            "sensor 7"
        );
    }

    #[test]
    fn permissions_are_by_user_client_id_and_address() {
        let rules = sample();
        let allow = |user: Option<&str>, client_id: &str, address: &str, action, filter: &str| {
            let address = address.parse().ok();
            rules.allow(
                &Who {
                    client_id,
                    user,
                    address,
                    ticket: None,
                },
                action,
                filter,
            )
        };
        let (alice, sensor) = (Some("alice"), Some("sensor 7"));
        for (user, client_id, address, action, filter, expect) in [
            (alice, "x", "", Publish, "chat/a", true),
            (alice, "x", "", PublishRetained, "chat/a", true),
            (alice, "x", "", Will, "chat/a", true),
            (alice, "x", "", WillFires, "chat/a", true),
            (alice, "x", "", Subscribe, "chat/+/a", true),
            (alice, "x", "", Publish, "inbox/bob/alice", true),
            (alice, "x", "", Subscribe, "inbox/bob/alice", false),
            (alice, "x", "", Publish, "news/a", false),
            (alice, "x", "", Subscribe, "news/a", true),
            (alice, "x", "", Subscribe, "#", false),
            (sensor, "s-1", "10.1.2.3:9", Publish, "sensors/s-1/t", true),
            (sensor, "test", "[::1]:9", Publish, "sensors/test/t", true),
            (
                sensor,
                "s-1",
                "[::ffff:10.1.2.3]:9",
                Publish,
                "sensors/s-1/t",
                true,
            ),
            (sensor, "s-1", "11.1.2.3:9", Publish, "sensors/s-1/t", false),
            (sensor, "s-1", "", Publish, "sensors/s-1/t", false),
            (sensor, "s-1", "10.1.2.3:9", Publish, "sensors/s-2/t", false),
            (sensor, "r-1", "10.1.2.3:9", Publish, "sensors/r-1/t", false),
            (
                sensor,
                "testing",
                "10.1.2.3:9",
                Publish,
                "sensors/testing/t",
                false,
            ),
            (sensor, "s-1", "", Subscribe, "news/a", true),
            (
                Some("mallory"),
                "s-1",
                "10.1.2.3:9",
                Subscribe,
                "news/a",
                false,
            ),
            (None, "s-1", "10.1.2.3:9", Subscribe, "news/a", false),
        ] {
            assert_eq!(
                allow(user, client_id, address, action, filter),
                expect,
                "{user:?} as {client_id} from {address}: {action:?} {filter}"
            );
        }
    }

    #[test]
    fn nothing_in_the_file_leaves_everything_open() {
        let rules: Rules = "# nobody yet\n".parse().unwrap();
        assert!(rules.is_open() && rules.anonymous);
        let anyone = Who {
            client_id: "x",
            user: None,
            address: None,
            ticket: None,
        };
        assert!(rules.allow(&anyone, Action::Subscribe, "#"));
        // A permission alone is for those without a name, and the end of everything else.
        let rules: Rules = "[[permission]]\nsubscribe = [\"public/#\"]\n"
            .parse()
            .unwrap();
        assert!(!rules.is_open() && rules.anonymous);
        assert!(rules.allow(&anyone, Action::Subscribe, "public/a"));
        assert!(!rules.allow(&anyone, Action::Subscribe, "a"));
        assert!(!rules.allow(&anyone, Action::Publish, "public/a"));
        // A name that is nobody's stands for nothing in a template.
        let rules: Rules = "[[permission]]\nallow = [\"inbox/%u\"]\n".parse().unwrap();
        let mallory = Who {
            user: Some("bob"),
            ..anyone
        };
        assert!(!rules.allow(&mallory, Action::Subscribe, "inbox/bob"));
    }

    #[test]
    fn mistakes_are_told_with_line_key_and_nearest_name() {
        let hash = cheap("secret");
        let user = format!(
            "[[user]]\nname = \"alice\"\npassword = \"{}\"\n",
            hash.as_str()
        );
        for (text, expect) in [
            (
                "[[users]]\n",
                "line 1: unknown section [[users]]; did you mean [[user]]?",
            ),
            (
                "\nuser = \"a\"\n",
                "line 2: write each user under a line [[user]]",
            ),
            (
                "[user]\nname = \"a\"\n",
                "line 1: write each user under a line [[user]]",
            ),
            (
                "[[user]]\n",
                "line 1: this user has no name: add name = \"…\"",
            ),
            (
                "[[user]]\nname = 7\n",
                "line 2: user.name: expected a text in quotes",
            ),
            (
                "[[user]]\nname = \"*\"\n",
                "line 2: user.name = \"*\": in permissions, \"*\" is every user",
            ),
            (
                "[[user]]\nname = \"\"\n",
                "line 2: user.name = \"\": a user name has at least one character",
            ),
            (
                "[[user]]\nname = \"a\"\n",
                "line 2: user a has no password and no certificate, so nobody can log in as a: `waypost users passwd a`",
            ),
            (
                "[[user]]\nname = \"a\"\npassword = \"hunter2\"\n",
                "line 3: user.password of a is not an argon2id hash ($argon2id$v=19$m=…,t=…,p=…$salt$hash); \
                 `waypost users passwd NAME` writes one",
            ),
            (
                "[[user]]\nname = \"a\"\npasword = \"x\"\ncertificate = \"cn=a\"\n",
                "line 3: unknown key user.pasword; did you mean password?",
            ),
            (
                "[[user]]\nname = \"a\"\ncertificate = [\"c=a\", \"a\"]\n",
                "line 3: user.certificate = \"c=a\": unknown kind c; did you mean cn?\n\
                 line 3: user.certificate = \"a\": expected kind=value, for example \"cn=alice\"",
            ),
            (
                "[[user]]\nname = \"a\"\ncertificate = \"cn=a\"\n[[user]]\nname = \"b\"\ncertificate = \"cn=a\"\n",
                "line 6: certificate \"cn=a\" is a's already: one certificate is one user",
            ),
            (
                "[[user]]\nname = \"a\"\ncertificate = \"cn=a\"\nallow = [\"b+\"]\n",
                "line 4: user.allow = \"b+\" has a + that does not fill its level",
            ),
            (
                "[[permission]]\nuser = \"alcie\"\nallow = \"#\"\n",
                "line 6: there are two users \"alice\"",
            ),
            (
                "[[permission]]\naddress = \"::1\"\n",
                "line 1: this permission allows nothing: add allow, publish or subscribe",
            ),
            (
                "[[permission]]\nuser = []\nallow = \"#\"\n",
                "line 2: permission.user is an empty list: leave the key out",
            ),
            (
                "[[permission]]\naddress = \"10.0.0.0/33\"\nallow = \"#\"\n",
                "line 2: permission.address = \"10.0.0.0/33\": expected an address or a network, for example \"10.0.0.0/8\"",
            ),
            (
                "[[permission]]\nclient_id = \"a*b\"\nallow = \"#\"\n",
                "line 2: permission.client_id = \"a*b\": a client id, or its beginning and then *",
            ),
            (
                "[[permission\n",
                "line 1: not valid TOML: unclosed array table, expected `]]`",
            ),
        ] {
            // One of them needs two of the same user.
            let (text, expect) = if expect.contains("two users") {
                (format!("{user}\n{user}"), expect)
            } else {
                (text.to_owned(), expect)
            };
            assert_eq!(problems(&text), expect, "{text}");
        }
        let text = format!("[[permission]]\nuser = [\"alcie\"]\nallow = \"#\"\n{user}");
        assert_eq!(
            problems(&text),
            "line 2: there is no user \"alcie\"; did you mean alice?"
        );
        assert!(!problems("[[user]]\nname = \"a\"\npassword = \"hunter2\"\n").contains("hunter2"));
    }
}
