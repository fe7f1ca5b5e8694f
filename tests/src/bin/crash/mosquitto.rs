//! `mosquitto_sub`, which stays and connects again by itself, and `mosquitto_pub`, which reads lines for one round.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use waypost_tests::ledger::{Event, Message};

use crate::report::{Report, Reports, received};

/// A program that is killed when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts `name` with its output unbuffered and gives each line of it to `read`, and none at its end.
fn start(
    name: &str,
    port: u16,
    arguments: &[&str],
    stdin: Stdio,
    mut read: impl FnMut(Option<&str>) + Send + 'static,
) -> Program {
    let mut child = Command::new("stdbuf")
        .args([
            "-oL",
            name,
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-V",
            "5",
        ])
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto's clients start");
    let stdout = child.stdout.take().expect("a piped stdout");
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            read(Some(&line));
        }
        read(None);
    });
    Program(child)
}

pub struct Subscriber {
    _program: Program,
}

impl Subscriber {
    /// Hears at QoS 1; its connections are counted by `era`, the server's processes.
    ///
    /// Not at QoS 2, which libmosquitto (2.0) does not keep up over connections: a PUBLISH that is sent again counts a
    /// second time against its Receive Maximum, which ends `mosquitto_sub` with a protocol error when more than half of it
    /// was in flight, and is put beside the first, to be taken for another message when its packet identifier comes round.
    pub fn start(
        name: &'static str,
        port: u16,
        filters: &[&str],
        era: Arc<AtomicU64>,
        reports: Reports,
    ) -> Self {
        let mut arguments = vec!["-i", name, "-c", "-x", "86400", "-q", "1", "-F", "%q %p"];
        for filter in filters {
            arguments.extend(["-t", filter]);
        }
        let program = start(
            "mosquitto_sub",
            port,
            &arguments,
            Stdio::null(),
            move |line| {
                let Some(line) = line else {
                    let ended = Report::Ended {
                        client: name.to_owned(),
                    };
                    drop(reports.send(ended));
                    return;
                };
                let (qos, payload) = line.split_once(' ').unwrap_or(("0", line));
                let qos = qos.parse().unwrap_or_default();
                drop(reports.send(received(name, payload, qos, era.load(Ordering::SeqCst))));
            },
        );
        Self { _program: program }
    }
}

/// Publishes at QoS 1 for one round; what it has not finished when the server is killed, it never repeats.
pub struct Publisher {
    _program: Program,
    stdin: ChildStdin,
    name: &'static str,
    number: u64,
    round: u64,
    reports: Reports,
}

impl Publisher {
    /// Its messages are numbered from `after` + 1; they come after so many seconds.
    pub fn start(
        (name, delay_s): (&'static str, u32),
        port: u16,
        after: u64,
        round: u64,
        reports: Reports,
    ) -> Self {
        let topic = match delay_s {
            0 => format!("crash/{name}"),
            _ => format!("$delayed/{delay_s}/crash/{name}"),
        };
        let acks = reports.clone();
        let arguments = ["-i", name, "-q", "1", "-t", &topic, "-l", "-d"];
        let mut program = start(
            "mosquitto_pub",
            port,
            &arguments,
            Stdio::piped(),
            move |line| {
                // Client mpub received PUBACK (Mid: 7, RC:0)
                let Some((_, rest)) =
                    line.and_then(|line| line.split_once("received PUBACK (Mid: "))
                else {
                    return;
                };
                let Some((packet_id, code)) = rest.split_once(", RC:") else {
                    return;
                };
                let Ok(packet_id) = packet_id.parse::<u64>() else {
                    return;
                };
                let message = Message {
                    publisher: name.to_owned(),
                    number: after + packet_id,
                };
                let code = code.trim_end_matches(')');
                // 16: no matching subscribers.
                let event = if matches!(code, "0" | "16") {
                    Event::Acked {
                        message,
                        connection: round,
                    }
                } else {
                    Event::Refused {
                        message,
                        reason: code.to_owned(),
                    }
                };
                drop(acks.send(Report::Ledger(event)));
            },
        );
        let stdin = program.0.stdin.take().expect("a piped stdin");
        Self {
            _program: program,
            stdin,
            name,
            number: after,
            round,
            reports,
        }
    }

    /// Publishes one more; nothing once the program has ended.
    pub fn publish(&mut self) {
        self.number += 1;
        let message = Message {
            publisher: self.name.to_owned(),
            number: self.number,
        };
        drop(self.reports.send(Report::Ledger(Event::Sent {
            message,
            connection: self.round,
        })));
        drop(writeln!(self.stdin, "{} {} ", self.name, self.number));
    }

    /// How far it has come.
    pub fn number(&self) -> u64 {
        self.number
    }
}
