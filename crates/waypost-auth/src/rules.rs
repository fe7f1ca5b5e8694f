//! Users and permissions as they were read, and the verdicts that follow from them.

use core::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;
use waypost_core::{Action, Who};

use crate::password::PasswordHash;
use crate::pattern::{Names, Pattern};

/// Names to things; what is asked for comes from outside, what is in it from the administrator.
pub(crate) type ByName<T> = HashMap<Box<str>, T, foldhash::fast::FixedState>;

/// Who there is and what they may do: one reading of the users file.
///
/// Permissions only allow. What no permission covers is denied, once there is a user or a permission at all.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub(crate) users: ByName<User>,
    /// Names of users whose certificates have that name.
    pub(crate) certificates: ByName<Box<str>>,
    pub(crate) permissions: Vec<Permission>,
    /// Indexes of the permissions that are not for named users only.
    pub(crate) for_many: Vec<usize>,
    /// Indexes of those for a named user.
    pub(crate) for_user: ByName<Vec<usize>>,
    /// Whether those without a name may come in.
    pub(crate) anonymous: bool,
    pub(crate) asks_client_id: bool,
    pub(crate) asks_address: bool,
}

/// One user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub password: Option<PasswordHash>,
    pub certificates: Vec<Box<str>>,
}

/// One rule that allows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Permission {
    pub users: Users,
    /// Empty: whatever the client id.
    pub client_ids: Vec<ClientIds>,
    /// Empty: wherever it comes from.
    pub addresses: Vec<IpNet>,
    pub publish: Vec<Pattern>,
    pub subscribe: Vec<Pattern>,
}

/// Whom a permission is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Users {
    /// Everybody who came in, with a name or without.
    #[default]
    Everybody,
    /// Everybody with a name.
    Known,
    Named(Vec<Box<str>>),
}

/// A client id, or how client ids begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientIds {
    One(Box<str>),
    Beginning(Box<str>),
}

impl ClientIds {
    fn contains(&self, client_id: &str) -> bool {
        match self {
            Self::One(one) => **one == *client_id,
            Self::Beginning(beginning) => client_id.starts_with(&**beginning),
        }
    }
}

impl Rules {
    /// Nobody is known and nothing is forbidden: who says a name is believed.
    pub fn open() -> Self {
        Self {
            anonymous: true,
            ..Self::default()
        }
    }

    /// Whether everything is allowed, because there is neither a user nor a permission.
    pub fn is_open(&self) -> bool {
        self.users.is_empty() && self.permissions.is_empty()
    }

    /// Whether there is no user.
    pub fn has_no_users(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether those without a name may come in.
    pub fn lets_anonymous_in(&self) -> bool {
        self.anonymous
    }

    /// Users there are.
    pub fn user_count(&self) -> usize {
        self.users.len()
    }

    /// Permissions there are, those of single users included.
    pub fn permission_count(&self) -> usize {
        self.permissions.len()
    }

    /// Says whether those without a name may come in. Unsaid, they may while there are no users.
    #[must_use]
    pub fn with_anonymous(mut self, anonymous: Option<bool>) -> Self {
        self.anonymous = anonymous.unwrap_or(self.users.is_empty());
        self
    }

    pub(crate) fn add(&mut self, permission: Permission) {
        let index = self.permissions.len();
        let patterns = permission.publish.iter().chain(&permission.subscribe);
        self.asks_client_id |=
            !permission.client_ids.is_empty() || patterns.clone().any(Pattern::names_client_id);
        self.asks_address |= !permission.addresses.is_empty();
        match &permission.users {
            Users::Everybody | Users::Known => self.for_many.push(index),
            Users::Named(names) => {
                for name in names {
                    self.for_user.entry(name.clone()).or_default().push(index);
                }
            }
        }
        self.permissions.push(permission);
    }

    /// Whether somebody may do something.
    pub fn allow(&self, who: &Who<'_>, action: Action, filter: &str) -> bool {
        if self.is_open() {
            return true;
        }
        let user = who.user.filter(|user| self.users.contains_key(*user));
        let own = user.and_then(|user| self.for_user.get(user));
        let own = own.into_iter().flatten();
        own.chain(&self.for_many)
            .filter_map(|index| self.permissions.get(*index))
            .any(|permission| permission.allows(who, user, action, filter))
    }
}

impl Permission {
    /// `user` is the name, if it is that of a user there is.
    fn allows(&self, who: &Who<'_>, user: Option<&str>, action: Action, filter: &str) -> bool {
        let patterns = match action {
            Action::Subscribe => &self.subscribe,
            Action::Publish | Action::PublishRetained | Action::Will | Action::WillFires => {
                &self.publish
            }
        };
        let names = Names {
            client_id: who.client_id,
            user,
        };
        (user.is_some() || self.users != Users::Known)
            && (self.client_ids.is_empty()
                || self
                    .client_ids
                    .iter()
                    .any(|ids| ids.contains(who.client_id)))
            && (self.addresses.is_empty() || who.address.is_some_and(|at| self.is_at(at.ip())))
            && patterns
                .iter()
                .any(|pattern| pattern.covers(&names, filter))
    }

    fn is_at(&self, address: IpAddr) -> bool {
        // An IPv4 client of a socket that serves both is the same client.
        let address = address.to_canonical();
        self.addresses
            .iter()
            .any(|network| network.contains(&address))
    }
}
