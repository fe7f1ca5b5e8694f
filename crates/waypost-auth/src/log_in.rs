//! The core's `Authenticate`, answered from the rules. Passwords are checked elsewhere, and take their time.

use core::hash::BuildHasher;
use core::net::IpAddr;
use std::sync::Arc;

use waypost_core::{Authenticate, Authentication, Credentials, Standing, Ticket};
use waypost_mqtt::ReasonCode;

use crate::password::PasswordHash;
use crate::rules::{Rules, User};

/// Where passwords are checked.
pub trait PasswordCheck {
    /// Asks for a check; the answer comes by the ticket. `false`: too many wait already.
    fn ask(&mut self, question: Question) -> bool;

    /// Nobody waits for that answer any more.
    fn forget(&mut self, ticket: Ticket);
}

/// A password to be checked.
#[derive(Debug)]
pub struct Question {
    /// Who is to be told.
    pub ticket: Ticket,
    /// The user name that was given.
    pub user: Box<str>,
    /// The password that was given.
    pub password: Box<[u8]>,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// What to check it against. For a name that is nobody's it is somebody's all the same, so that it takes as long:
    /// then the answer is no whatever comes out.
    pub hash: PasswordHash,
    /// Whether the name is that of a user with a password.
    pub is_known: bool,
}

/// Finds out who clients are, by these rules.
pub struct LogIn<P> {
    rules: Arc<Rules>,
    /// The rules until the last change.
    before: Arc<Rules>,
    /// Hashes of users there are, for names that are nobody's.
    decoys: Vec<PasswordHash>,
    hasher: foldhash::fast::FixedState,
    passwords: P,
}

impl<P: PasswordCheck> LogIn<P> {
    /// By these rules from now on, and by those `before`. The seed is to be secret: it says what a name that is nobody's
    /// is checked against.
    pub fn new(rules: Arc<Rules>, before: Arc<Rules>, seed: u64, passwords: P) -> Self {
        let mut users: Vec<_> = rules.users.iter().collect();
        users.sort_unstable_by_key(|(name, _)| *name);
        let decoys = users
            .into_iter()
            .filter_map(|(_, user)| user.password.clone());
        Self {
            decoys: decoys.collect(),
            rules,
            before,
            hasher: foldhash::fast::FixedState::with_seed(seed),
            passwords,
        }
    }

    fn by_name(&mut self, name: &str, credentials: &Credentials<'_>) -> Authentication {
        let wrong = Authentication::Reject(ReasonCode::BadUserNameOrPassword);
        let Some(password) = credentials.password else {
            return wrong;
        };
        let user = self.rules.users.get(name);
        let known = user.and_then(|user| user.password.as_ref());
        let Some(hash) = known.or_else(|| self.decoy(name)) else {
            // Nobody has a password: there is nothing to find out.
            return wrong;
        };
        let question = Question {
            ticket: credentials.ticket,
            user: name.into(),
            password: password.into(),
            address: credentials.address.map(|address| address.ip()),
            hash: hash.clone(),
            is_known: known.is_some(),
        };
        if self.passwords.ask(question) {
            Authentication::Pending
        } else {
            Authentication::Reject(ReasonCode::ServerBusy)
        }
    }

    /// For one name always the same, and by chance as costly as that of anybody.
    fn decoy(&self, name: &str) -> Option<&PasswordHash> {
        let count = u64::try_from(self.decoys.len())
            .ok()
            .filter(|count| *count > 0)?;
        let at = self.hasher.hash_one(name) % count;
        self.decoys.get(usize::try_from(at).ok()?)
    }
}

impl<P: PasswordCheck> Authenticate for LogIn<P> {
    fn supports(&self, _: &str) -> bool {
        false
    }

    fn authenticate(&mut self, credentials: &Credentials<'_>, _: u32) -> Authentication {
        let accept = |user: Option<&str>| Authentication::Accept {
            user: user.map(Box::from),
            data: None,
        };
        if self.rules.is_open() && self.rules.anonymous {
            // There is nobody to be told apart from: names are taken on trust.
            return accept(credentials.user_name);
        }
        let denied = Authentication::Reject(ReasonCode::NotAuthorized);
        let mut shown = credentials
            .certificate
            .iter()
            .filter_map(|name| self.rules.certificates.get(name.as_str()));
        if let Some(user) = shown.next() {
            let is_one = shown.all(|other| other == user);
            let agrees = credentials.user_name.is_none_or(|name| *name == **user);
            return if is_one && agrees {
                accept(Some(user))
            } else {
                denied
            };
        }
        match credentials.user_name {
            Some(name) => self.by_name(name, credentials),
            // A password without a name is no password of anybody's.
            None if credentials.password.is_some() => {
                Authentication::Reject(ReasonCode::BadUserNameOrPassword)
            }
            None if self.rules.anonymous => accept(None),
            None => denied,
        }
    }

    fn forget(&mut self, ticket: Ticket) {
        self.passwords.forget(ticket);
    }

    fn standing(&self, user: Option<&str>) -> Standing {
        let is_on_trust = self.before.is_open();
        let now_on_trust = self.rules.is_open() && self.rules.anonymous;
        let Some(name) = user else {
            return if self.rules.anonymous {
                Standing::Stays
            } else {
                Standing::Gone
            };
        };
        match (self.before.users.get(name), self.rules.users.get(name)) {
            _ if is_on_trust && now_on_trust => Standing::Stays,
            (_, None) => Standing::Gone,
            (Some(before), Some(now)) if now.still_has(before) => Standing::Stays,
            (_, Some(_)) => Standing::LogsInAgain,
        }
    }
}

impl User {
    /// Whether whatever let somebody in as `before` would still do.
    fn still_has(&self, before: &Self) -> bool {
        self.password == before.password
            && before
                .certificates
                .iter()
                .all(|name| self.certificates.contains(name))
    }
}

impl Rules {
    /// Whether that is the hash of that user's password.
    pub fn has_password(&self, user: &str, hash: &PasswordHash) -> bool {
        self.users
            .get(user)
            .is_some_and(|user| user.password.as_ref() == Some(hash))
    }
}

#[cfg(test)]
mod tests {
    use waypost_core::ConnectionId;

    use super::*;
    use crate::password::{HashMemory, cheap};

    #[derive(Default)]
    struct Asked(Vec<Question>, usize);

    impl PasswordCheck for Asked {
        fn ask(&mut self, question: Question) -> bool {
            self.0.push(question);
            self.0.len() <= self.1
        }

        fn forget(&mut self, _: Ticket) {}
    }

    fn rules(anonymous: Option<bool>) -> Arc<Rules> {
        let text = format!(
            "[[user]]\nname = \"alice\"\npassword = \"{}\"\n\
             [[user]]\nname = \"pump\"\ncertificate = [\"cn=pump\", \"dns=pump.example\"]\n\
             [[user]]\nname = \"both\"\ncertificate = \"cn=both\"\npassword = \"{}\"\n",
            cheap("secret").as_str(),
            cheap("other").as_str()
        );
        Arc::new(text.parse::<Rules>().unwrap().with_anonymous(anonymous))
    }

    fn log_in(rules: &Arc<Rules>) -> LogIn<Asked> {
        LogIn::new(
            Arc::clone(rules),
            Arc::clone(rules),
            1,
            Asked(Vec::new(), 10),
        )
    }

    fn answer(
        log_in: &mut LogIn<Asked>,
        user_name: Option<&str>,
        password: Option<&str>,
        certificate: &[&str],
    ) -> String {
        let certificate: Vec<String> = certificate.iter().map(|name| (*name).to_owned()).collect();
        let credentials = Credentials {
            client_id: "c",
            user_name,
            password: password.map(str::as_bytes),
            method: None,
            data: None,
            address: None,
            certificate: &certificate,
            ticket: Ticket {
                connection: ConnectionId(1),
                opened: 2,
            },
        };
        match log_in.authenticate(&credentials, 0) {
            Authentication::Accept { user, .. } => {
                user.as_deref().unwrap_or("anonymous").to_owned()
            }
            Authentication::Reject(reason) => format!("{:02x}", reason.as_u8()),
            Authentication::Pending => "waits".to_owned(),
            Authentication::Continue(_) => "continues".to_owned(),
        }
    }

    #[test]
    fn who_comes_in_and_how() {
        let (alice, pump, none) = (Some("alice"), Some("pump"), None);
        let secret = Some("secret");
        for (user_name, password, certificate, expect) in [
            (alice, secret, &[][..], "waits"),
            (alice, Some("wrong"), &[], "waits"),
            (alice, none, &[], "86"),
            (Some("mallory"), secret, &[], "waits"),
            (Some(""), secret, &[], "waits"),
            (pump, secret, &[], "waits"),
            (none, none, &[], "87"),
            (none, secret, &[], "86"),
            (none, none, &["cn=pump"], "pump"),
            (none, none, &["dns=pump.example", "cn=pump"], "pump"),
            (pump, none, &["cn=pump"], "pump"),
            (pump, Some("wrong"), &["cn=pump"], "pump"),
            (Some("both"), none, &["cn=both"], "both"),
            (alice, secret, &["cn=pump"], "87"),
            (none, none, &["cn=pump", "cn=both"], "87"),
            (Some("both"), none, &["cn=pump", "cn=both"], "87"),
            // A certificate that is nobody's says nothing.
            (none, none, &["cn=stranger"], "87"),
            (alice, secret, &["cn=stranger"], "waits"),
            (alice, none, &["cn=alice"], "86"),
        ] {
            let answer = answer(&mut log_in(&rules(None)), user_name, password, certificate);
            assert_eq!(answer, expect, "{user_name:?} {password:?} {certificate:?}");
        }
    }

    #[test]
    fn those_without_a_name_come_in_if_they_may() {
        let mut let_in = log_in(&rules(Some(true)));
        assert_eq!(answer(&mut let_in, None, None, &[]), "anonymous");
        assert_eq!(answer(&mut let_in, None, Some("x"), &[]), "86");
        // Without users, names are taken on trust, unless nobody is to come in.
        let mut open = log_in(&Arc::new(Rules::open()));
        assert_eq!(answer(&mut open, None, None, &[]), "anonymous");
        assert_eq!(
            answer(&mut open, Some("anybody"), Some("x"), &[]),
            "anybody"
        );
        let mut shut = log_in(&Arc::new(Rules::open().with_anonymous(Some(false))));
        assert_eq!(answer(&mut shut, None, None, &[]), "87");
        assert_eq!(answer(&mut shut, Some("anybody"), Some("x"), &[]), "86");
        // With permissions and no users, there are no names to believe.
        let public: Rules = "[[permission]]\nallow = \"public/#\"\n".parse().unwrap();
        let mut public = log_in(&Arc::new(public));
        assert_eq!(answer(&mut public, None, None, &[]), "anonymous");
        assert_eq!(answer(&mut public, Some("anybody"), Some("x"), &[]), "86");
    }

    #[test]
    fn a_name_that_is_nobodys_is_checked_like_any_other_and_never_right() {
        let mut log_in = log_in(&rules(None));
        let mut memory = HashMemory::default();
        let mut costs = Vec::new();
        for (name, password, expect) in [
            ("alice", "secret", true),
            ("alice", "wrong", false),
            // The passwords of others.
            ("mallory", "secret", false),
            ("mallory", "other", false),
            ("pump", "secret", false),
        ] {
            answer(&mut log_in, Some(name), Some(password), &[]);
            let question = log_in.passwords.0.pop().unwrap();
            let is_right = question.hash.verify(&question.password, &mut memory);
            assert_eq!(is_right && question.is_known, expect, "{name} {password}");
            costs.push(question.hash.as_str().split('$').nth(3).unwrap().to_owned());
        }
        costs.dedup();
        assert_eq!(costs.len(), 1, "{costs:?}");
    }

    #[test]
    fn when_too_many_wait_the_server_is_busy() {
        let mut log_in = log_in(&rules(None));
        for number in 0..20 {
            let expect = if number < 10 { "waits" } else { "89" };
            assert_eq!(answer(&mut log_in, Some("alice"), Some("x"), &[]), expect);
        }
    }

    #[test]
    fn a_change_of_rules_says_who_may_stay() {
        use Standing::{Gone, LogsInAgain, Stays};
        let file = |text: &str| Arc::new(text.parse::<Rules>().unwrap());
        let user = |name: &str, line: &str| format!("[[user]]\nname = \"{name}\"\n{line}\n");
        let password = |text: &str| format!("password = \"{}\"", cheap(text).as_str());
        let alice = file(&user("alice", &password("secret")));
        let changed = file(&user("alice", &password("other")));
        let more = file(&user(
            "alice",
            &format!("{}\ncertificate = \"cn=a\"", password("secret")),
        ));
        let bob = file(&user("bob", "certificate = \"cn=b\""));
        let open = Arc::new(Rules::open());
        let anonymous = Arc::new((*alice).clone().with_anonymous(Some(true)));
        for (before, now, user, expect) in [
            (&alice, &alice, Some("alice"), Stays),
            (&alice, &changed, Some("alice"), LogsInAgain),
            (&alice, &more, Some("alice"), Stays),
            (&more, &alice, Some("alice"), LogsInAgain),
            (&alice, &bob, Some("alice"), Gone),
            (&alice, &open, Some("alice"), Gone),
            (&open, &open, Some("alice"), Stays),
            // Until now the name was only said.
            (&open, &alice, Some("alice"), LogsInAgain),
            (&open, &alice, Some("bob"), Gone),
            (&open, &alice, None, Gone),
            (&open, &anonymous, None, Stays),
            (&anonymous, &alice, None, Gone),
            (&alice, &open, None, Stays),
        ] {
            let log_in = LogIn::new(Arc::clone(now), Arc::clone(before), 1, Asked::default());
            assert_eq!(
                log_in.standing(user),
                expect,
                "{user:?} from {before:?} to {now:?}"
            );
        }
    }
}
