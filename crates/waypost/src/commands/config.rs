//! `waypost config default|check|explain`: the server's settings, shown, checked and explained.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};
use waypost_mqtt::Filter;
use waypost_server::config::{
    Config, Explained, LoadError, Origin, Reload, Sources, StreamConfig, default_toml,
};

use crate::Failure;

const EXAMPLES: &str = "\
Examples:
  waypost config default > waypost.toml           every setting, its default, what it does
  waypost config check waypost.toml               what is wrong with a file, line by line
  waypost config check                            what is wrong with the environment (WAYPOST_…)
  waypost config explain --config waypost.toml orders/eu/17
                                                  which policy ([[topic]]) holds there, key by key, and
                                                  which streams ([[stream]]) its messages enter
  waypost config explain --config waypost.toml '$share/workers/orders/#'
                                                  which policy holds for a group

Exit codes:
  0 no mistakes, 2 mistakes";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print a complete settings file: every key with its default, unit and meaning
    Default,
    /// Check a settings file, together with the environment, without starting a server
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// The file; without one, only the environment is checked
        file: Option<PathBuf>,
        /// Print one JSON object: file, ok, changed, problems with file, line and message
        #[arg(long)]
        json: bool,
    },
    /// Say which policy gives which value to a topic or to a group's filter, and which streams a topic enters
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain {
        /// A topic, a filter, or a group: '$share/GROUP/FILTER', '$queue/FILTER'
        #[arg(value_name = "TOPIC|FILTER")]
        filter: String,
        /// The file with the policies
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print one JSON object: filter, group, streams, keys with key, value, file, line and the policy's filter
        #[arg(long)]
        json: bool,
    },
}

const CHECK_EXAMPLES: &str = "\
Examples:
  waypost config check waypost.toml
  waypost config check waypost.toml --json | jq -r '.problems[].message'

Exit codes:
  0 no mistakes, 2 mistakes";

const EXPLAIN_EXAMPLES: &str = "\
The most specific filter wins, key by key: level by level from the left, a literal before +, + before #. What concerns a
group is found for the filter of the group: a policy holds for it if its own filter covers all of that one. For a topic,
the streams are named that its messages enter.

Examples:
  waypost config explain --config waypost.toml orders/eu/17
  waypost config explain --config waypost.toml '$share/workers/orders/#' --json

Exit codes:
  0 explained, 2 a mistake in the file or in the filter";

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let sources = |file: &Option<PathBuf>| Sources {
        file: file.clone(),
        environment: std::env::vars_os().collect(),
        flags: Vec::new(),
    };
    match &arguments.action {
        Action::Default => print(&default_toml()),
        Action::Check { file, json } => {
            let sources = sources(file);
            let config = Config::load(&sources);
            if *json {
                print(&checked_json(&sources, &config))?;
                // The object has said it all; the exit code says it again.
                return config.map(|_| ()).map_err(|error| mistakes(&error));
            }
            let config = config.map_err(|error| Failure::usage(error.to_string()))?;
            print(&checked(&sources, &config))
        }
        Action::Explain {
            filter,
            config,
            json,
        } => {
            let config = Config::load(&sources(config));
            let config = config.map_err(|error| Failure::usage(error.to_string()))?;
            let question = Question::parse(filter)?;
            let found = config.topics.explain(question.filter);
            let streams = question.streams(&config);
            print(&if *json {
                question.json(&found, &streams)
            } else {
                question.text(&found, &streams)
            })
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // `waypost config default | head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::new(format!("cannot print: {error}"))),
    }
}

fn mistakes(error: &LoadError) -> Failure {
    let count = error.problems.len();
    let plural = if count == 1 { "" } else { "s" };
    Failure::usage(format!("{count} mistake{plural}"))
}

/// What differs from the defaults.
fn changed(config: &Config) -> Vec<String> {
    let defaults = Config::default();
    let mut names = config.changed(&defaults, Reload::AtStart);
    names.extend(config.changed(&defaults, Reload::OnHangup));
    names
}

/// One line for people: no mistakes, and what differs from the defaults.
fn checked(sources: &Sources, config: &Config) -> String {
    let name = sources.file.as_ref().map_or_else(
        || "the environment".to_owned(),
        |file| file.display().to_string(),
    );
    let changed = changed(config);
    if changed.is_empty() {
        format!("{name}: no mistakes; every setting has its default\n")
    } else {
        format!(
            "{name}: no mistakes; not the default: {}\n",
            changed.join(", ")
        )
    }
}

fn checked_json(sources: &Sources, config: &Result<Config, LoadError>) -> String {
    let file = sources.file.as_ref().map(|file| file.display().to_string());
    let problems = config
        .as_ref()
        .err()
        .map_or(&[][..], |error| &error.problems);
    let problems: Vec<Value> = problems
        .iter()
        .map(|problem| {
            let (file, line) = place(&problem.origin());
            json!({"file": file, "line": line, "message": problem.to_string()})
        })
        .collect();
    let changed = config.as_ref().map(changed).unwrap_or_default();
    let object = json!({
        "file": file,
        "ok": config.is_ok(),
        "changed": changed,
        "problems": problems,
    });
    format!("{object}\n")
}

/// The file and the line, where it is in a file.
fn place(origin: &Origin) -> (Option<String>, Option<usize>) {
    match origin {
        Origin::File { path, line } => (Some(path.display().to_string()), Some(*line)),
        _ => (None, None),
    }
}

/// What is asked about: a topic or filter, maybe that of a group.
struct Question<'a> {
    asked: &'a str,
    filter: Filter<'a>,
    group: Option<&'a str>,
}

impl<'a> Question<'a> {
    fn parse(asked: &'a str) -> Result<Self, Failure> {
        let wrong = |error: waypost_mqtt::TopicError| {
            Failure::usage(format!("{asked} {error}"))
                .hint("a topic as orders/eu/17, a filter as 'orders/#', or a group as '$share/workers/orders/#'")
        };
        let parsed = Filter::parse(asked).map_err(wrong)?;
        if let Some(inner) = asked.strip_prefix("$queue/") {
            return Ok(Self {
                asked,
                filter: Filter::parse(inner).map_err(wrong)?,
                group: Some(""),
            });
        }
        let (group, filter) = match parsed.shared() {
            Some(shared) => shared
                .map_err(wrong)
                .map(|(group, filter)| (Some(group), filter))?,
            None => (None, parsed),
        };
        Ok(Self {
            asked,
            filter,
            group,
        })
    }

    /// The streams that a message on this topic enters; none where a filter was asked for.
    fn streams<'c>(&self, config: &'c Config) -> Vec<&'c str> {
        let takes =
            |stream: &&StreamConfig| self.group.is_none() && stream.takes(self.filter.as_str());
        let streams = config.streams.iter().filter(takes);
        streams.map(|stream| stream.name.as_str()).collect()
    }

    fn text(&self, found: &[Explained], streams: &[&str]) -> String {
        let mut text = String::new();
        if self.group.is_some() {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}: what holds for {}",
                self.asked,
                self.filter.as_str()
            );
        }
        let width = |of: fn(&Explained) -> usize| found.iter().map(of).max().unwrap_or(0);
        let (keys, values) = (width(|row| row.key.len()), width(|row| row.value.len()));
        for Explained {
            key,
            value,
            origin,
            filter,
        } in found
        {
            let filter = filter
                .as_ref()
                .map(|filter| format!(", filter \"{filter}\""))
                .unwrap_or_default();
            let _ = writeln!(text, "{key:keys$}  {value:values$}  {origin}{filter}");
        }
        if !streams.is_empty() {
            let _ = writeln!(text, "{:keys$}  {}", "streams", streams.join(", "));
        }
        text
    }

    fn json(&self, found: &[Explained], streams: &[&str]) -> String {
        let keys: Vec<Value> = found
            .iter()
            .map(|row| {
                let (file, line) = place(&row.origin);
                let number = row.value.parse::<u64>().map(|number| json!(number));
                let value = number.unwrap_or_else(|_| json!(row.value.trim_matches('"')));
                json!({"key": row.key, "value": value, "file": file, "line": line, "filter": row.filter})
            })
            .collect();
        let object = json!({
            "filter": self.filter.as_str(),
            "group": self.group,
            "keys": keys,
            "streams": streams,
        });
        format!("{object}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file<T>(toml: &str, ask: impl Fn(&Sources) -> T) -> (T, String) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(toml.as_bytes()).unwrap();
        let sources = Sources {
            file: Some(file.path().to_owned()),
            ..Sources::default()
        };
        (ask(&sources), file.path().display().to_string())
    }

    fn check_file(toml: &str) -> Result<String, String> {
        let (told, name) = with_file(toml, |sources| {
            Config::load(sources)
                .map(|config| checked(sources, &config))
                .map_err(|error| error.to_string())
        });
        told.map(|text| text.replace(&name, "x.toml"))
            .map_err(|text| text.replace(&name, "x.toml"))
    }

    #[test]
    fn a_good_file_is_told_with_what_it_changes() {
        assert_eq!(
            check_file(&default_toml()).unwrap(),
            "x.toml: no mistakes; every setting has its default\n"
        );
        assert_eq!(
            check_file(
                "[server]\nshards = 3\n[log]\nlevel = \"warn\"\n\
                 [[topic]]\nfilter = \"a\"\nmax_deliveries = 1\n"
            )
            .unwrap(),
            "x.toml: no mistakes; not the default: server.shards, log.level, [[topic]]\n"
        );
    }

    #[test]
    fn a_bad_file_is_told_line_by_line() {
        assert_eq!(
            check_file("[server]\nshard = 3\n[lag]\n").unwrap_err(),
            "x.toml:2: unknown key server.shard; did you mean server.shards?\n\
             x.toml:3: unknown section [lag]; did you mean [log]?"
        );
    }

    #[test]
    fn json_says_the_same() {
        let ask = |sources: &Sources| checked_json(sources, &Config::load(sources));
        let (told, name) = with_file("[server]\nshard = 3\n", ask);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            told,
            json!({
                "file": name,
                "ok": false,
                "changed": [],
                "problems": [{
                    "file": name,
                    "line": 2,
                    "message": format!("{name}:2: unknown key server.shard; did you mean server.shards?"),
                }],
            })
        );
        let (told, _) = with_file("[server]\nshards = 3\n", ask);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (&told["ok"], &told["changed"]),
            (&json!(true), &json!(["server.shards"]))
        );
    }

    const POLICIES: &str = "\
[[topic]]
filter = \"orders/#\"
balance = \"least-connections\"
max_deliveries = 5
[[topic]]
filter = \"orders/eu/+\"
balance = \"random\"
[[stream]]
name = \"mail\"
filters = \"mail/#\"
[[stream]]
name = \"all\"
filters = [\"mail/+\", \"news\"]
";

    fn explain(filter: &str, as_json: bool) -> String {
        let ask = |sources: &Sources| {
            let config = Config::load(sources).unwrap();
            let question = Question::parse(filter).unwrap();
            let found = config.topics.explain(question.filter);
            let streams = question.streams(&config);
            if as_json {
                question.json(&found, &streams)
            } else {
                question.text(&found, &streams)
            }
        };
        let (told, name) = with_file(POLICIES, ask);
        told.replace(&name, "x.toml")
    }

    #[test]
    fn every_value_is_explained_by_its_line() {
        assert_eq!(
            explain("orders/eu/17", false),
            "balance         \"random\"   x.toml:7, filter \"orders/eu/+\"\n\
             max_deliveries  5          x.toml:4, filter \"orders/#\"\n\
             durability      \"sync\"     default\n\
             dead_letter     \"\"         default\n\
             seal            \"allowed\"  default\n"
        );
        let told = explain("$share/g/#", false);
        let lines: Vec<Vec<&str>> = told
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let default = format!("\"{}\"", waypost_balance::default_strategy().name);
        assert_eq!(lines[0], ["$share/g/#:", "what", "holds", "for", "#"]);
        assert_eq!(lines[1], ["balance", default.as_str(), "default"]);
        assert_eq!(lines[2], ["max_deliveries", "0", "default"]);
        for group in ["$queue/orders/+", "$share/workers/orders/+"] {
            let told: Value = serde_json::from_str(&explain(group, true)).unwrap();
            assert_eq!(told["filter"], "orders/+");
            let name = if group.starts_with("$queue") {
                ""
            } else {
                "workers"
            };
            assert_eq!(told["group"], name);
            assert_eq!(
                told["keys"][1],
                json!({"key": "max_deliveries", "value": 5, "file": "x.toml", "line": 4, "filter": "orders/#"})
            );
        }
    }

    #[test]
    fn the_streams_of_a_topic_are_named() {
        let last = |topic| explain(topic, false).lines().last().map(str::to_owned);
        assert_eq!(last("mail/7").as_deref(), Some("streams         mail, all"));
        assert!(!explain("orders", false).contains("streams"));
        for (asked, streams) in [
            ("mail/7", json!(["mail", "all"])),
            ("news", json!(["all"])),
            ("mail/+", json!([])),
            ("$share/g/news", json!([])),
        ] {
            let told: Value = serde_json::from_str(&explain(asked, true)).unwrap();
            assert_eq!(told["streams"], streams, "{asked}");
        }
    }

    #[test]
    fn what_is_no_filter_is_told() {
        for (asked, expect) in [
            ("a/#/b", "a/#/b has a # that is not alone in its last level"),
            (
                "$share/g",
                "$share/g has no Topic Filter after its ShareName",
            ),
            ("$queue/", "$queue/ is empty"),
        ] {
            let told = Question::parse(asked).err().unwrap().to_string();
            assert_eq!(told, expect);
        }
    }
}
