//! Runs the fuzz targets: `waypost-fuzz [--seconds N] [--seed N] [--input FILE] [TARGET]`.
//!
//! Without a target all of them share the time. Without a seed one is made from the clock. The
//! seed is printed before a run begins; `--input` runs one target on one file.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

use waypost_fuzz::{Crash, Target, replay, run, targets};

struct Options {
    seconds: u64,
    seed: u64,
    input: Option<String>,
    target: Option<String>,
}

fn main() -> ExitCode {
    match options().and_then(|options| start(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("waypost-fuzz: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut options = Options {
        seconds: 60,
        seed: since_1970.map_or(1, |time| time.as_secs()),
        input: None,
        target: None,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seconds" => options.seconds = number(&value()?)?,
            "--seed" => options.seed = number(&value()?)?,
            "--input" => options.input = Some(value()?),
            _ if word.starts_with('-') => return Err(format!("there is no option {word}")),
            _ => options.target = Some(word),
        }
    }
    Ok(options)
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}

fn start(options: &Options) -> Result<(), String> {
    let chosen = chosen(options.target.as_deref())?;
    if let Some(path) = &options.input {
        let input = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        return chosen
            .iter()
            .try_for_each(|target| match replay(target, &input) {
                None => Ok(()),
                Some(crash) => Err(format!("{}: {}", target.name, crash.message)),
            });
    }
    let seconds = options.seconds.div_ceil(chosen.len() as u64);
    for target in chosen {
        println!(
            "{} --seconds {seconds} --seed {}",
            target.name, options.seed
        );
        let report = run(target, seconds, options.seed);
        println!("{}: {} inputs", target.name, report.inputs);
        if let Some(crash) = report.crash {
            return Err(keep(target, &crash));
        }
    }
    Ok(())
}

fn chosen(name: Option<&str>) -> Result<Vec<&'static Target>, String> {
    let found: Vec<_> = targets()
        .iter()
        .filter(|target| name.is_none_or(|name| name == target.name))
        .collect();
    if found.is_empty() {
        let names: Vec<_> = targets().iter().map(|target| target.name).collect();
        return Err(format!(
            "there is no such target; there are {}",
            names.join(", ")
        ));
    }
    Ok(found)
}

/// Writes the input where it can be run again and says how.
fn keep(target: &Target, crash: &Crash) -> String {
    let path = env::temp_dir().join(format!("waypost-fuzz-{}.bin", target.name));
    let kept = match fs::write(&path, &crash.input) {
        Ok(()) => format!(
            "again with: waypost-fuzz --input {} {}",
            path.display(),
            target.name
        ),
        Err(error) => format!("{}: {error}", path.display()),
    };
    format!(
        "{}: {}\ninput {:02X?}\n{kept}",
        target.name, crash.message, crash.input
    )
}
