//! The clients of paho, all in one Python process.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
};

use waypost_tests::ledger::{Event, Message};

use crate::report::{Report, Reports, received};

pub struct Paho {
    child: Child,
    stdin: ChildStdin,
}

impl Paho {
    pub fn start(mut python: Command, port: u16, reports: Reports) -> Self {
        let mut child = python
            .args(["-u", "python/crash_crew.py", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let stdin = child.stdin.take().expect("a piped stdin");
        let stdout = child.stdout.take().expect("a piped stdout");
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let report = read(&line).unwrap_or_else(|| panic!("the crew said '{line}'"));
                if reports.send(report).is_err() {
                    break;
                }
            }
        });
        Self { child, stdin }
    }

    /// Gives the crew a command, one line.
    pub fn tell(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").expect("the crew reads its commands");
    }
}

impl Drop for Paho {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn read(line: &str) -> Option<Report> {
    let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = rest.split(' ').collect();
    let word = |index: usize| words.get(index).copied();
    let owned = |index: usize| word(index).map(str::to_owned);
    let number = |index: usize| word(index)?.parse::<u64>().ok();
    let message = || {
        Some(Message {
            publisher: owned(0)?,
            number: number(1)?,
        })
    };
    Some(match what {
        "sent" => Report::Ledger(Event::Sent {
            message: message()?,
            connection: number(2)?,
        }),
        "acked" => Report::Ledger(Event::Acked {
            message: message()?,
            connection: number(2)?,
        }),
        "refused" => Report::Ledger(Event::Refused {
            message: message()?,
            reason: owned(2)?,
        }),
        "refused-connect" => Report::Ledger(Event::Refused {
            message: Message {
                publisher: format!("CONNECT of {}", word(0)?),
                number: 0,
            },
            reason: owned(1)?,
        }),
        "on" => Report::On {
            client: owned(0)?,
            connection: number(1)?,
            session_present: word(2)? == "1",
        },
        "off" => Report::Off {
            client: owned(0)?,
            connection: number(1)?,
        },
        "suback" => Report::Subscribed {
            client: owned(0)?,
            packet_id: owned(1)?,
            is_granted: words
                .iter()
                .skip(2)
                .all(|code| code.parse().is_ok_and(|code: u8| code < 0x80)),
        },
        "unsuback" => Report::Unsubscribed {
            packet_id: owned(1)?,
        },
        "asked" => Report::Asked {
            filter: owned(0)?,
            packet_id: owned(1)?,
        },
        "paused" => Report::Paused,
        "got" => {
            let mut fields = rest.splitn(7, ' ');
            let (_, entry) = (fields.next()?, fields.next()?);
            let connection = fields.next()?.parse().ok()?;
            let qos = fields.next()?.parse().ok()?;
            let is_retained = fields.next()? == "1";
            let (topic, payload) = (fields.next()?, fields.next()?);
            match entry {
                "look" => {
                    let number =
                        crate::report::message(payload).map_or(0, |message| message.number);
                    Report::Kept {
                        topic: topic.to_owned(),
                        number,
                        is_retained,
                    }
                }
                "changer" => Report::Told {
                    topic: topic.to_owned(),
                },
                _ => received(entry, payload, qos, connection),
            }
        }
        _ => return None,
    })
}
