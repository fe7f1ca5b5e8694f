//! `waypost keys new|list|show|export|import|trust|rotate|remove`: whose keys there are, for sealing and signing.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use serde_json::{Value, json};
use waypost_client::keys::{
    Holding, KeyDirectory, KeyFile, KeyName, KeysError, Kind, Purpose, SET_KEYS_MAX,
};
use waypost_encrypt::{JWK_BYTES_MAX, KeyId};
use zeroize::Zeroizing;

use super::output::{Align, Cell, print, table};
use crate::Failure;
use crate::failure::colour;

const EXAMPLES: &str = "\
Examples:
  waypost keys new ann                            a key to be sealed for, and one to sign with
  waypost keys export ann > ann.json              their public halves, for whoever writes to ann
  waypost keys trust bob bob.json                 what bob gave you: seal for him, know his signature
  waypost keys show bob                           compare the ids with what bob sees
  waypost pub -t letters/bob -m hi --seal-for bob --sign-as ann
  waypost sub -t 'letters/#' --open               opens what is for you, says who signed it
  waypost keys new orders --kind symmetric        one key that several share, the fastest
  waypost keys export orders --private -o orders.json
                                                  for those who share it: they import it
  waypost keys rotate ann                         new keys; the old ones open what they were used for
  waypost keys remove bob                         says what would not open any more; --yes does it
  openssl pkey -in mine.pem | waypost keys import ann -
                                                  PEM: EC P-256, X25519, Ed25519, RSA
  waypost keys list --json | jq -r '.[].name'

The keys are files for nobody but you, one each, in $WAYPOST_KEYS, else $XDG_CONFIG_HOME/waypost/keys,
else ~/.config/waypost/keys. A server needs none of them. docs/sealing.md begins at the beginning.

Exit codes: 0 done, 2 a mistake in flags, names or key files, 1 anything else.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    place: KeysArgs,
}

/// Where keys are.
#[derive(Debug, clap::Args)]
pub struct KeysArgs {
    /// The directory with your keys, if not `$WAYPOST_KEYS` or else `~/.config/waypost/keys`
    #[arg(long, global = true, value_name = "DIR")]
    keys: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make keys of your own
    New {
        /// What to call them: you, a device, or what a shared key is for
        name: KeyName,
        /// What to make (may be repeated); without it ecc and signing, which is right for a person or a device
        #[arg(long, value_enum, value_name = "KIND")]
        kind: Vec<NewKind>,
        /// Print one JSON array of the keys
        #[arg(long)]
        json: bool,
    },
    /// List all keys: yours, shared ones, and those of others
    List {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show the keys of one name, with their ids and files
    Show {
        /// The name
        name: KeyName,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Print the keys of a name for others: a JWK Set of the public halves
    Export {
        /// The name
        name: KeyName,
        /// The private halves too: to move to another machine, or to share a symmetric key. Whoever has them reads and
        /// signs as this name
        #[arg(long)]
        private: bool,
        /// Write a file, readable by nobody else, that is not there yet
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Take keys of your own that were made elsewhere: JWK, JWK Set or PEM (PKCS #8), private or shared
    Import {
        /// What to call them
        name: KeyName,
        /// The file; - for standard input
        file: PathBuf,
        /// Print one JSON array of the keys
        #[arg(long)]
        json: bool,
    },
    /// Take the public keys of somebody else: seal for them, know their signature
    Trust {
        /// What to call them
        name: KeyName,
        /// The file that `waypost keys export` made at theirs, JWK, JWK Set or PEM (SPKI); - for standard input
        file: PathBuf,
        /// In place of the keys that this name has: after they said that they have new ones
        #[arg(long)]
        replace: bool,
        /// Print one JSON array of the keys
        #[arg(long)]
        json: bool,
    },
    /// Make new keys for a name of yours; the old ones still open what was sealed for them
    Rotate {
        /// The name
        name: KeyName,
        /// Print one JSON array of the new keys
        #[arg(long)]
        json: bool,
    },
    /// Delete all keys of a name, old ones too: what only they open stays shut for good
    Remove {
        /// The name
        name: KeyName,
        /// Do it; without, only what would not open any more is told
        #[arg(long)]
        yes: bool,
        /// Print one JSON array of the keys that are gone
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum NewKind {
    /// A P-256 pair to be sealed for: browsers and everything else can use it
    Ecc,
    /// An X25519 pair to be sealed for
    X25519,
    /// An RSA pair to be sealed for: for peers that know nothing newer
    Rsa,
    /// A key that several share: fast, and all of them can write what the others do
    Symmetric,
    /// A P-256 pair to sign with (ES256)
    Signing,
    /// An Ed25519 pair to sign with
    Ed25519,
}

impl From<NewKind> for Kind {
    fn from(kind: NewKind) -> Self {
        match kind {
            NewKind::Ecc => Self::Ecc,
            NewKind::X25519 => Self::X25519,
            NewKind::Rsa => Self::Rsa,
            NewKind::Symmetric => Self::Symmetric,
            NewKind::Signing => Self::Signing,
            NewKind::Ed25519 => Self::Ed25519,
        }
    }
}

impl KeysArgs {
    /// The keys that are there.
    pub fn open(&self) -> Result<KeyDirectory, Failure> {
        let path = match &self.keys {
            Some(path) => path.clone(),
            None => KeyDirectory::default_path().map_err(failure)?,
        };
        KeyDirectory::open(path).map_err(failure)
    }
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let mut directory = arguments.place.open()?;
    let now = SystemTime::now();
    match &arguments.action {
        Action::New { name, kind, json } => {
            let kinds: Vec<Kind> = if kind.is_empty() {
                vec![Kind::Ecc, Kind::Signing]
            } else {
                kind.iter().copied().map(Kind::from).collect()
            };
            let ids = directory.generate(name, &kinds, now).map_err(failure)?;
            let is_shared = kinds == [Kind::Symmetric];
            let next = if is_shared {
                format!("for those who share it: waypost keys export {name} --private -o FILE")
            } else {
                format!("for those who write to you: waypost keys export {name} > {name}.json")
            };
            told(&directory, &ids, *json, &format!("made for {name}"), &next)
        }
        Action::List { json } => {
            let keys: Vec<_> = directory.keys().iter().collect();
            if *json {
                return print(&as_json(&keys));
            }
            if keys.is_empty() {
                return print("no keys yet: `waypost keys new NAME` makes yours\n");
            }
            print(&as_table(&keys))
        }
        Action::Show { name, json } => {
            let keys = directory.named(name).map_err(failure)?;
            if *json {
                return print(&as_json(&keys));
            }
            let mut text = as_table(&keys);
            for key in keys {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{}  {}", key.id(), key.path.display());
            }
            print(&text)
        }
        Action::Export {
            name,
            private,
            output,
        } => export(&directory, name, *private, output.as_deref()),
        Action::Import { name, file, json } => {
            let text = read(file)?;
            let ids = directory.import(name, &text, now).map_err(failure)?;
            told(&directory, &ids, *json, &format!("taken as {name}'s"), "")
        }
        Action::Trust {
            name,
            file,
            replace,
            json,
        } => {
            let text = read(file)?;
            let ids = directory.trust(name, &text, *replace, now);
            let ids = ids.map_err(failure)?;
            if ids.is_empty() && !*json {
                return print(&format!("{name} has these keys already\n"));
            }
            let next =
                format!("compare the ids with what {name} sees: another way than this file came");
            told(
                &directory,
                &ids,
                *json,
                &format!("trusted as {name}"),
                &next,
            )
        }
        Action::Rotate { name, json } => {
            let ids = directory.rotate(name, now).map_err(failure)?;
            let ids: Vec<_> = ids.into_iter().map(|(_, new)| new).collect();
            let next = "the old ones still open; give the new ones to whoever has those";
            told(&directory, &ids, *json, &format!("new for {name}"), next)
        }
        Action::Remove { name, yes, json } => remove(&mut directory, name, *yes, *json),
    }
}

/// What was done with these keys, and what to do next.
fn told(
    directory: &KeyDirectory,
    ids: &[KeyId],
    is_json: bool,
    done: &str,
    next: &str,
) -> Result<(), Failure> {
    let keys: Vec<_> = ids.iter().filter_map(|id| directory.key(*id)).collect();
    if is_json {
        return print(&as_json(&keys));
    }
    let mut text = String::new();
    for key in keys {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{done}: {}, a key {} ({})",
            key.id(),
            key.purpose,
            key.kind()
        );
    }
    if !next.is_empty() {
        text.push_str(next);
        text.push('\n');
    }
    print(&text)
}

fn remove(
    directory: &mut KeyDirectory,
    name: &KeyName,
    is_meant: bool,
    is_json: bool,
) -> Result<(), Failure> {
    if !is_meant {
        let keys = directory.named(name).map_err(failure)?;
        return Err(Failure::usage(format!(
            "nothing was removed. Without {}:\n{}",
            if keys.len() == 1 { "this key" } else { "these keys" },
            losses(&keys)
        ))
        .hint(format!(
            "`waypost keys remove {name} --yes` removes them, and nothing brings them back but a copy of their files"
        )));
    }
    let removed = directory.remove(name).map_err(failure)?;
    let removed: Vec<_> = removed.iter().collect();
    if is_json {
        return print(&as_json(&removed));
    }
    print(&format!("removed\n{}", losses(&removed)))
}

/// What is no longer possible without these keys, one line each.
fn losses(keys: &[&KeyFile]) -> String {
    let mut text = String::new();
    for key in keys {
        let name = &key.name;
        let mut lost = Vec::new();
        if opens(key) {
            lost.push(match key.holding {
                Holding::Shared(_) => "what is sealed with it does not open here".to_owned(),
                _ => format!(
                    "what is sealed for {name} with it opens nowhere, but where a copy of it is"
                ),
            });
        } else if key.purpose.covers(Purpose::Sealing) {
            lost.push(format!("nothing is sealed for {name}"));
        }
        if key.purpose.covers(Purpose::Signing) {
            if key.is_own() && key.retired.is_none() {
                lost.push(format!("nothing is signed as {name}"));
            }
            lost.push(format!("what {name} signed with it does not open here"));
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {} ({}): {}", key.id(), key.kind(), lost.join("; "));
    }
    text
}

fn export(
    directory: &KeyDirectory,
    name: &KeyName,
    is_private: bool,
    output: Option<&Path>,
) -> Result<(), Failure> {
    let set = directory.export(name, is_private).map_err(failure)?;
    if is_private {
        eprintln!(
            "warning: these are private keys. Whoever has them reads what is sealed for {name} and can write as {name}"
        );
    }
    let Some(path) = output else {
        return print(&set);
    };
    let failed = |error: &io::Error| format!("{}: {error}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Failure::usage(failed(&error)))?;
    let written = file
        .write_all(set.as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half a file would be taken for all of it, and be in the way of the next attempt.
        let _ = fs::remove_file(path);
        Failure::new(failed(&error))
    })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    const BYTES_MAX: usize = SET_KEYS_MAX * JWK_BYTES_MAX;
    let failed = |error: io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let mut reader: Box<dyn Read> = if path.as_os_str() == "-" {
        if io::stdin().is_terminal() {
            eprintln!("paste the JWK, JWK Set or PEM, then press Ctrl-D");
        }
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    // As long as it gets: nothing is moved and left behind.
    let mut text = Zeroizing::new(Vec::with_capacity(BYTES_MAX + 1));
    let mut bounded = reader.by_ref().take(BYTES_MAX as u64 + 1);
    bounded.read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

fn as_json(keys: &[&KeyFile]) -> String {
    let rows: Vec<Value> = keys
        .iter()
        .map(|key| {
            json!({
                "name": key.name.as_str(),
                "id": key.id().to_string(),
                "kind": key.kind().name(),
                "purpose": purpose(key),
                "holding": holding(key),
                "created": iso(key.created),
                "retired": key.retired.map(iso),
                "file": key.path.display().to_string(),
            })
        })
        .collect();
    format!("{}\n", Value::from(rows))
}

fn as_table(keys: &[&KeyFile]) -> String {
    let head = [
        ("name", Align::Left),
        ("whose", Align::Left),
        ("for", Align::Left),
        ("kind", Align::Left),
        ("id", Align::Left),
        ("since", Align::Left),
        ("", Align::Left),
    ];
    let rows: Vec<Vec<Cell>> = keys
        .iter()
        .map(|key| {
            let old = key
                .retired
                .map(|time| format!("old since {}", day(time)))
                .unwrap_or_default();
            [
                key.name.to_string(),
                holding(key).to_owned(),
                purpose(key).to_owned(),
                key.kind().name().to_owned(),
                key.id().to_string(),
                day(key.created),
                old,
            ]
            .map(Cell::new)
            .into()
        })
        .collect();
    table(&head, &rows, colour(&io::stdout()))
}

fn purpose(key: &KeyFile) -> &'static str {
    match key.purpose {
        Purpose::Sealing => "sealing",
        Purpose::Signing => "signing",
        Purpose::Both => "both",
    }
}

fn holding(key: &KeyFile) -> &'static str {
    match key.holding {
        Holding::Private(_) => "yours",
        Holding::Shared(_) => "shared",
        Holding::Public(_) => "trusted",
    }
}

/// Whether messages can be opened with it.
pub fn opens(key: &KeyFile) -> bool {
    key.is_own() && key.purpose.covers(Purpose::Sealing)
}

fn timestamp(time: SystemTime) -> Timestamp {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(seconds.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn iso(time: SystemTime) -> String {
    timestamp(time).to_string()
}

fn day(time: SystemTime) -> String {
    timestamp(time).strftime("%Y-%m-%d").to_string()
}

/// What went wrong with keys, and what would fix it.
pub fn failure(error: KeysError) -> Failure {
    let text = error.to_string();
    let failure = match &error {
        KeysError::System { .. } | KeysError::NoRandomness(_) => Failure::new(text),
        _ => Failure::usage(text),
    };
    match error {
        KeysError::Unknown { name, like: None } => failure.hint(format!(
            "`waypost keys new {name}` makes keys of yours, `waypost keys trust {name} FILE` takes those of somebody else"
        )),
        KeysError::Unknown { .. } => failure.hint("`waypost keys list` shows which there are"),
        KeysError::Exists { name, .. } => failure.hint(format!(
            "if they are yours, `waypost keys rotate {name}` makes new ones; if {name} said that they have new ones, \
             `waypost keys trust {name} FILE --replace` takes them"
        )),
        KeysError::Lacks { name, purpose } => failure.hint(if purpose == Purpose::Signing {
            format!("`waypost keys new {name} --kind signing` makes one, if {name} is you")
        } else {
            format!("`waypost keys new {name} --kind ecc` makes one, if {name} is you")
        }),
        KeysError::NotOwn(_) => {
            failure.hint("`waypost keys trust NAME FILE` takes public keys of somebody else")
        }
        KeysError::NotPublic(_) => failure.hint(
            "ask for `waypost keys export NAME` without --private, and for new keys; a key that you are to share is imported",
        ),
        KeysError::Shared(name) => failure.hint(format!(
            "`waypost keys export {name} --private -o FILE` is for those who share it, and for nobody else"
        )),
        KeysError::NotASet | KeysError::NotAKey(_) | KeysError::NotPem(_) => {
            failure.hint("`waypost keys export NAME` makes such files, and so does `openssl genpkey`")
        }
        KeysError::IsOwn(name) | KeysError::IsTrusted(name) => {
            failure.hint(format!("`waypost keys show {name}` shows which"))
        }
        _ => failure,
    }
}
