//! A relay that parses nothing, over four event loops: the floor under a broker's data plane in Rust.
//!
//! ```text
//! event-loop serve PORT PUBLISHERS SUBSCRIBERS RECORD_BYTES mio|mio-runs|uring|tokio [ROOM]
//! event-loop measure LOAD [RELAY] [--rounds N] [--only NAME,…] [--scenarios NAME,…]
//! ```
//!
//! `serve` takes the arguments of the neutral bench's `relay.cpp`. `measure` runs every loop beside
//! that relay, in turn, scenario by scenario, and prints medians. What is deliberately not here:
//! protocol, bounds on outboxes, errors answered instead of ending the process.

mod copies;
mod measure;
mod mio_loop;
mod plan;
mod runs;
mod tokio_tasks;
mod uring;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use plan::Plan;
use socket2::{Domain, Socket, Type};

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn serve(arguments: &[String]) -> io::Result<()> {
    let number = |index: usize| {
        arguments.get(index).map_or(Ok(0), |text| {
            text.parse::<usize>().map_err(io::Error::other)
        })
    };
    let plan = Plan {
        publishers: number(1)?,
        subscribers: number(2)?,
        record_bytes: number(3)?,
        room: number(5)?,
    };
    let listener = listen(u16::try_from(number(0)?).map_err(io::Error::other)?)?;
    let ended = match arguments.get(4).map(String::as_str) {
        Some("mio") => mio_loop::run::<copies::Copies>(listener, plan),
        Some("mio-runs") => mio_loop::run::<runs::Runs>(listener, plan),
        Some("uring") => uring::run(listener, plan),
        Some("tokio") => tokio_tasks::run(listener, plan),
        _ => Err(io::Error::other(
            "the loop is one of mio, mio-runs, uring, tokio",
        )),
    };
    // The load is done when its connections close.
    ended.or_else(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Ok(())
        } else {
            Err(error)
        }
    })
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(&arguments[1..]),
        Some("measure") => measure::run(&arguments[1..]),
        _ => Err(io::Error::other("event-loop serve|measure …")),
    }
}
