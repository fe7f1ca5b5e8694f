//! Candidate: tokio, current-thread, as servers are commonly written on it: one task per connection
//! that selects between its socket and its channel, `Bytes` shared between receivers, what waits in
//! the channel gathered into one write. All tasks live on one `LocalSet`, so nothing is locked.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

use crate::plan::Plan;

const READ_BUFFER_BYTES: usize = 64 * 1024;
const MESSAGES_PER_WRITE: usize = 1024;
/// Longer messages are written from where they are.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

type Senders = Rc<RefCell<Vec<UnboundedSender<Bytes>>>>;

async fn connection(
    mut stream: TcpStream,
    index: usize,
    plan: Plan,
    senders: Senders,
    mut receiver: UnboundedReceiver<Bytes>,
) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut buffer = BytesMut::new();
    let mut messages = Vec::new();
    let mut gathered = Vec::new();
    loop {
        tokio::select! {
            ready = reader.readable() => {
                ready?;
                // Taken only when there is something to read: an idle connection owns no buffer.
                if buffer.len() == buffer.capacity() {
                    buffer.reserve(READ_BUFFER_BYTES.max(plan.record_bytes));
                }
                match reader.try_read_buf(&mut buffer) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
                let whole = buffer.len() / plan.record_bytes * plan.record_bytes;
                if whole > 0 {
                    let records = buffer.split_to(whole).freeze();
                    let senders = senders.borrow();
                    for receiver in plan.receivers(index, senders.len()) {
                        let _closed = senders[receiver].send(records.clone());
                    }
                }
                if buffer.is_empty() {
                    buffer = BytesMut::new();
                }
            }
            count = receiver.recv_many(&mut messages, MESSAGES_PER_WRITE) => {
                if count == 0 {
                    return Ok(());
                }
                for message in messages.drain(..) {
                    if message.len() + gathered.len() > GATHERED_BYTES_MAX {
                        writer.write_all(&gathered).await?;
                        gathered.clear();
                    }
                    if message.len() > GATHERED_BYTES_MAX {
                        writer.write_all(&message).await?;
                    } else {
                        gathered.extend_from_slice(&message);
                    }
                }
                if !gathered.is_empty() {
                    writer.write_all(&gathered).await?;
                }
                gathered = Vec::new();
            }
        }
    }
}

async fn accept(listener: TcpListener, plan: Plan) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let senders = Senders::default();
    let (failed, mut failures) = unbounded_channel();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                let (sender, receiver) = unbounded_channel();
                let index = senders.borrow().len();
                senders.borrow_mut().push(sender);
                let (senders, failed) = (Rc::clone(&senders), failed.clone());
                tokio::task::spawn_local(async move {
                    if let Err(error) = connection(stream, index, plan, senders, receiver).await {
                        let _ended = failed.send(error);
                    }
                });
            }
            Some(error) = failures.recv() => return Err(error),
        }
    }
}

/// Serves until the first connection closes.
pub fn run(listener: TcpListener, plan: Plan) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    LocalSet::new().block_on(&runtime, accept(listener, plan))
}
