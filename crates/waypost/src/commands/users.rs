//! `waypost users add|passwd|remove|list`: the users file, changed; a running server is told.

mod password;
mod server;

use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;

use serde_json::json;
use waypost_auth::{EditError, ListedUser};
use waypost_server::auth::{UsersFile, UsersFileError};

use super::administration::Place;
use crate::Failure;
use server::Told;

const EXAMPLES: &str = "\
Examples:
  waypost users add alice --allow 'chat/#'        asks for a password, twice
  waypost users add kitchen --publish 'sensors/%u/#' --password-file kitchen.secret
                                                  %u stands for the user name, %c for the client id
  waypost users add admin --allow '#' --subscribe '$SYS/#' --subscribe '$events/#'
                                                  # alone does not cover topics that begin with $
  waypost users add pump --certificate cn=pump-7 --publish 'pumps/7/#'
                                                  comes in with a client certificate instead
  waypost users passwd alice                      another password; alice has to log in again
  waypost users remove alice                      and is disconnected
  waypost users list                              who there is, and what they may do

Once there is a user, nobody gets in without a name and nothing is allowed that no rule allows.
A running server is told and acts at once. Rules for several users, by client id or by address are
written into the file itself (users.toml in the data directory): docs/users.md says how.

Exit codes:
  0 done, 1 not done or refused by the running server, 2 a mistake in flags or in the users file";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Add a user
    Add {
        #[command(flatten)]
        user: NewUser,
        #[command(flatten)]
        password: password::Source,
    },
    /// Give a user another password
    Passwd {
        /// The user name
        name: String,
        #[command(flatten)]
        password: password::Source,
    },
    /// Remove a user, and what it was allowed
    Remove {
        /// The user name
        name: String,
    },
    /// List the users and what each was allowed by name
    List {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct NewUser {
    /// The user name
    name: String,
    /// Let it publish to these topics and subscribe to them; several times for several filters
    #[arg(long, value_name = "FILTER")]
    allow: Vec<String>,
    /// Let it publish to these topics
    #[arg(long, value_name = "FILTER")]
    publish: Vec<String>,
    /// Let it subscribe to these topics
    #[arg(long, value_name = "FILTER")]
    subscribe: Vec<String>,
    /// Let it in with a client certificate that has this name (cn=, dns=, email=, uri=, sha256=);
    /// then no password is asked for
    #[arg(long, value_name = "KIND=NAME")]
    certificate: Vec<String>,
}

impl NewUser {
    fn listed(&self) -> ListedUser {
        ListedUser {
            name: self.name.clone(),
            has_password: false,
            certificate: self.certificate.clone(),
            allow: self.allow.clone(),
            publish: self.publish.clone(),
            subscribe: self.subscribe.clone(),
        }
    }
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let config = arguments.place.settings()?;
    let file = UsersFile::of(&config);
    let done = match &arguments.action {
        Action::Add { user, password } => {
            add(&file, user, password)?;
            format!("added {}", user.name)
        }
        Action::Passwd { name, password } => {
            // Before anybody types a password for nothing.
            file.text()
                .and_then(|text| Ok(text.find(name)?))
                .map_err(failure)?;
            let hash = password.hash(name)?;
            file.change(|text| text.set_password(name, &hash))
                .map_err(failure)?;
            format!("changed the password of {name}")
        }
        Action::Remove { name } => {
            file.change(|text| text.remove(name)).map_err(failure)?;
            let is_last = file.text().map_err(failure)?.list().is_empty();
            let rest = if is_last {
                ", the last user: nobody is asked who they are any more"
            } else {
                ""
            };
            format!("removed {name}{rest}")
        }
        Action::List { json } => {
            let users = file.text().map_err(failure)?.list();
            return say(&if *json {
                as_json(&users)
            } else {
                as_text(&users)
            });
        }
    };
    let path = file.path().display();
    match server::tell(&config)? {
        Told::Acts => say(&format!("{done}: {path}; the running server acts on it\n")),
        Told::NobodyThere => say(&format!(
            "{done}: {path}; no server runs on {}, the next one acts on it\n",
            config.server.data_dir.display()
        )),
        Told::Refused(why) => Err(Failure::new(format!(
            "{done}: {path}, but the running server keeps its old users: {why}"
        ))),
    }
}

fn add(file: &UsersFile, user: &NewUser, password: &password::Source) -> Result<(), Failure> {
    // Before anybody types a password for nothing.
    file.text()
        .and_then(|text| Ok(text.check_new(&user.name)?))
        .map_err(failure)?;
    let is_needed = user.certificate.is_empty() || password.is_given();
    let hash = is_needed.then(|| password.hash(&user.name)).transpose()?;
    let directory = file.path().parent().filter(|path| !path.exists());
    if let Some(directory) = directory.filter(|path| !path.as_os_str().is_empty()) {
        // As the server makes it.
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(|error| {
            Failure::new(format!("cannot make {}: {error}", directory.display()))
        })?;
    }
    file.change(|text| text.add(&user.listed(), hash.as_ref()))
        .map_err(failure)
}

fn failure(error: UsersFileError) -> Failure {
    let failure = match &error {
        UsersFileError::System { .. } => Failure::new(error.to_string()),
        _ => Failure::usage(error.to_string()),
    };
    match error {
        UsersFileError::Change(EditError::Exists(name)) => failure.hint(format!(
            "`waypost users passwd {name}` gives it another password"
        )),
        UsersFileError::Change(EditError::Missing { .. }) => {
            failure.hint("`waypost users list` shows who there is")
        }
        _ => failure,
    }
}

fn as_json(users: &[ListedUser]) -> String {
    let rows: Vec<_> = users
        .iter()
        .map(|user| {
            json!({
                "name": user.name,
                "password": user.has_password,
                "certificate": user.certificate,
                "allow": user.allow,
                "publish": user.publish,
                "subscribe": user.subscribe,
            })
        })
        .collect();
    format!("{}\n", json!(rows))
}

fn as_text(users: &[ListedUser]) -> String {
    if users.is_empty() {
        return "no users yet: whoever reaches the server may do everything; \
                `waypost users add NAME` adds the first\n"
            .to_owned();
    }
    let width = users.iter().map(|user| user.name.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    for user in users {
        let mut facts = Vec::new();
        if user.has_password {
            facts.push("password".to_owned());
        }
        for (label, values) in [
            ("certificate", &user.certificate),
            ("allow", &user.allow),
            ("publish", &user.publish),
            ("subscribe", &user.subscribe),
        ] {
            if !values.is_empty() {
                facts.push(format!("{label} {}", values.join(" ")));
            }
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:width$}  {}", user.name, facts.join(", "));
    }
    text
}

fn say(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // `waypost users list | head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::new(format!("cannot print: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_listed_for_people_and_for_scripts() {
        let users = [
            ListedUser {
                name: "alice".to_owned(),
                has_password: true,
                allow: vec!["a/#".to_owned(), "b".to_owned()],
                ..ListedUser::default()
            },
            ListedUser {
                name: "pump 7".to_owned(),
                certificate: vec!["cn=pump-7".to_owned()],
                ..ListedUser::default()
            },
        ];
        assert_eq!(
            as_text(&users),
            "alice   password, allow a/# b\npump 7  certificate cn=pump-7\n"
        );
        let rows: serde_json::Value = serde_json::from_str(&as_json(&users)).unwrap();
        assert_eq!(rows[0]["name"], "alice");
        assert_eq!(rows[0]["password"], true);
        assert_eq!(rows[0]["allow"][1], "b");
        assert_eq!(rows[1]["certificate"][0], "cn=pump-7");
        assert_eq!(as_json(&[]), "[]\n");
        assert!(as_text(&[]).contains("waypost users add"));
    }
}
