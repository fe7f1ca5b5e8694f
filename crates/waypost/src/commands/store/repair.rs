//! `waypost store repair`: a damaged store made whole again, and what that cost.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use indicatif::HumanCount;
use serde_json::{Value, json};
use waypost_server::config::Config;
use waypost_store::check::CheckError;
use waypost_store::log::Mended;
use waypost_store::repair::{self, Repair, RepairError};

use super::check::damage_json;
use super::{Opened, cannot_read, progress};
use crate::Failure;
use crate::commands::output::print;
use crate::failure::interrupted;

const EXAMPLES: &str = "\
Damaged parts become holes that hold nothing, so that everything else stays where it is. What was in
them is owed to nobody any more, and what is lost is told. It cannot be undone: copy the store first
(`waypost store backup DIR`, or cp -a), and if there is a recent backup, think of restoring that.

Examples:
  waypost store check && echo nothing to repair
  waypost store backup /backup/damaged && waypost store repair
  waypost store repair --json | jq .messages_lost

Exit codes:
  0 whole (again), 1 not repaired, 2 a mistake in flags or settings";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[arg(
        long,
        help = "Print one JSON object: store, mended with file, offset, bytes, what and how, \
                views_made_again, messages_lost, debts_lost, queues_concerned, rows_lost"
    )]
    json: bool,
}

pub fn run(arguments: &Args, config: &Config) -> Result<(), Failure> {
    let opened = Opened::new(config)?;
    let interrupted = interrupted()?;
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let wall_ms = wall.map_or(0, |wall| wall.as_millis());
    let bar = progress();
    let repaired = repair::repair(
        opened.disk.clone(),
        opened.options.clone(),
        u64::try_from(wall_ms).unwrap_or(0),
        &mut |bytes, total| {
            bar.set_length(total);
            bar.set_position(bytes);
            !interrupted.load(Ordering::Relaxed)
        },
    );
    bar.finish_and_clear();
    let repair = repaired.map_err(|error| match error {
        RepairError::Check(error) => cannot_read(&opened, &error),
        RepairError::Log(error) => cannot_read(&opened, &CheckError::Log(error)),
        error => Failure::new(format!("cannot repair {}: {error}", opened.path.display()))
            .hint("repairing again goes on from there; else restore a backup"),
    })?;
    print(&if arguments.json {
        format!("{:#}\n", as_json(&opened, &repair))
    } else {
        as_text(&repair)
    })
}

fn how(mended: Mended) -> &'static str {
    match mended {
        Mended::Header => "header",
        Mended::Hole => "hole",
        Mended::SetAside => "set aside",
    }
}

fn as_json(opened: &Opened, repair: &Repair) -> Value {
    let mended = repair.mended.iter().map(|(damage, mended)| {
        let mut value = damage_json(damage);
        if let Some(object) = value.as_object_mut() {
            object.insert("how".to_owned(), how(*mended).into());
        }
        value
    });
    json!({
        "store": opened.path.to_string_lossy(),
        "mended": mended.collect::<Vec<_>>(),
        "views_made_again": repair.views_made_again,
        "messages_lost": repair.messages_lost,
        "debts_lost": repair.debts_lost,
        "queues_concerned": repair.queues_concerned,
        "rows_lost": repair.rows_lost,
    })
}

fn as_text(repair: &Repair) -> String {
    if repair.is_empty() {
        return "nothing to repair\n".to_owned();
    }
    let mut lines = Vec::new();
    for (damage, mended) in &repair.mended {
        let (file, offset, bytes) = (&damage.file, damage.offset, damage.bytes);
        lines.push(match mended {
            Mended::Header => format!("{file}: the header is back, from its copy at the end"),
            Mended::Hole => format!("{file}, byte {offset}: {bytes} bytes are a hole now"),
            Mended::SetAside => {
                format!("{file}: nothing of it can be read; it is called {file}.damaged now")
            }
        });
    }
    if let Some(why) = &repair.views_made_again {
        lines.push(format!("the views are made again from the log: {why}"));
    }
    if repair.debts_lost > 0 {
        lines.push(format!(
            "lost: {} messages that {} queues were owed",
            HumanCount(repair.messages_lost),
            HumanCount(repair.queues_concerned)
        ));
    }
    if repair.rows_lost > 0 {
        let rows = HumanCount(repair.rows_lost);
        lines.push(format!("lost: {rows} retained messages"));
    }
    if repair.debts_lost == 0 && repair.rows_lost == 0 {
        lines.push("nobody is owed anything that was in it".to_owned());
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use waypost_store::log::LogDamage;

    use super::*;

    #[test]
    fn what_is_lost_is_told() {
        let mut repair = Repair::default();
        assert_eq!(as_text(&repair), "nothing to repair\n");
        let damage = |file: &str| LogDamage {
            file: file.to_owned(),
            offset: 128,
            bytes: 500,
            what: "a block's header is damaged",
        };
        repair.mended = vec![
            (damage("00000001.log"), Mended::Header),
            (damage("00000002.log"), Mended::Hole),
            (damage("00000003.log"), Mended::SetAside),
        ];
        assert!(as_text(&repair).ends_with("\nnobody is owed anything that was in it\n"));
        repair.messages_lost = 1_200;
        repair.debts_lost = 2_400;
        repair.queues_concerned = 2;
        repair.rows_lost = 3;
        assert_eq!(
            as_text(&repair),
            "00000001.log: the header is back, from its copy at the end\n\
             00000002.log, byte 128: 500 bytes are a hole now\n\
             00000003.log: nothing of it can be read; it is called 00000003.log.damaged now\n\
             lost: 1,200 messages that 2 queues were owed\n\
             lost: 3 retained messages\n"
        );
    }
}
