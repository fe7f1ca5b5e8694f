//! Goal: whatever the disk does, the store comes back with every transaction that was synced, and with nothing of what was
//! never appended; also from the log alone. Method: a script made from a seed (transactions, commits, retirement, starts),
//! run with the power going or the disk failing at many of its steps, against a model of every moment. Each transaction
//! writes its number into a row, so that it can be told which moment came back. On failure the seed and the plan are in
//! the message; `WAYPOST_SEEDS=FROM..TO` says which seeds.

use std::collections::BTreeMap;

use waypost_encrypt::MasterKey;

use super::*;
use crate::{
    disk::{Fault, SimulatedDisk},
    model::{Model, Random},
    record::Batch,
    streams::{Described, Filter, StreamOptions},
};

/// The row with the number of the last transaction.
const MOMENT: (Table, &[u8]) = (Table(77), b"moment");

/// A stream that keeps all,
const ALL: StreamId = StreamId(1);
/// and one that keeps the last of each topic.
const LAST: StreamId = StreamId(2);

/// After everything that is written, in wall time.
const LATER_MS: u64 = 1 << 40;

/// How many of a script's steps something goes wrong at, for each seed.
const PLANS: u64 = 12;

#[derive(Clone, Copy, Debug)]
enum Plan {
    Nothing,
    Crash(u64),
    Fault(Fault, u64, u64),
}

struct Run {
    said: String,
    disk: SimulatedDisk,
    options: StoreOptions,
    store: Option<(Store<SimulatedDisk>, StoreWriter<SimulatedDisk>)>,
    /// What the operations came to after each transaction.
    moments: Vec<Model>,
    /// What entered streams: with which transaction, which streams, and the body.
    entered: Vec<(usize, Vec<StreamId>, String)>,
    /// The last moment that was synced.
    durable: usize,
    random: Random,
}

impl Run {
    fn new(seed: u64, plan: Plan) -> Self {
        let mut random = Random::new(seed);
        let disk = SimulatedDisk::new(seed);
        match plan {
            Plan::Nothing => {}
            Plan::Crash(step) => disk.crash_at(step),
            Plan::Fault(fault, step, times) => disk.fail_at(step, fault, times),
        }
        let options = StoreOptions {
            log: LogOptions {
                segment_bytes: 1_500 + random.below(4_000),
                block_bytes: 200 + random.below(400) as usize,
                key: seed
                    .is_multiple_of(3)
                    .then(|| Arc::new(MasterKey::new([5; 32]))),
                ..LogOptions::default()
            },
            cache_bytes: 2_000,
            streams: StreamsOptions {
                describe,
                configured: vec![
                    StreamOptions::named("all"),
                    StreamOptions {
                        compact: true,
                        ..StreamOptions::named("last")
                    },
                ],
                segment_bytes_max: 500 + random.below(1_500),
                block_bytes: 100 + random.below(200) as usize,
                cache_bytes: 2_000,
                tables_bytes: 2_000,
                ..StreamsOptions::default()
            },
            ..StoreOptions::default()
        };
        Self {
            said: format!("seed {seed}, {plan:?}"),
            disk,
            options,
            store: None,
            moments: vec![Model::default()],
            entered: Vec::new(),
            durable: 0,
            random,
        }
    }

    /// Runs the script of the seed; gives the number of its I/O steps.
    fn script(&mut self) -> u64 {
        for _ in 0..25 {
            if !self.open() {
                continue;
            }
            match self.random.below(16) {
                0..9 => self.work(),
                9 | 10 => {
                    let _ = self.store().commit(0);
                }
                11..14 => self.retire(),
                14 => {
                    self.stop(false);
                    if self.random.below(4) == 0 {
                        let _ = self.disk.remove(views::FILE);
                    }
                }
                _ => self.stop(true),
            }
        }
        let steps = self.disk.steps();
        self.stop(true);
        self.disk.heal();
        assert!(self.open(), "{}", self.said);
        self.check();
        self.work();
        for _ in 0..200 {
            let streams = self.store().streams().maintain_step(LATER_MS).unwrap();
            if !self.store().retire_step(0).unwrap() && !streams {
                break;
            }
        }
        self.check();
        self.stop(false);
        // And from the log alone.
        self.disk.remove(views::FILE).unwrap();
        self.disk.sync_directory().unwrap();
        assert!(self.open(), "{}", self.said);
        self.check();
        steps
    }

    fn store(&self) -> &Store<SimulatedDisk> {
        &self.store.as_ref().unwrap().0
    }

    /// Lets the process end, with the power or without.
    fn stop(&mut self, is_crash: bool) {
        self.store = None;
        if is_crash {
            self.disk.crash();
        } else {
            self.disk.kill();
        }
    }

    /// Opens the store if it is not, and finds out which moment came back. Says whether it is open.
    fn open(&mut self) -> bool {
        if self.store.is_some() {
            return true;
        }
        let disk = Arc::new(self.disk.clone());
        let Ok((store, writer, recovered)) = Store::open(disk, self.options.clone(), 0) else {
            self.stop(true);
            return false;
        };
        // A disk that fails at this read says nothing of what is there.
        let read = store
            .rows(MOMENT.0)
            .and_then(|mut rows| Ok(rows.next().transpose()?));
        let moment = match read {
            Ok(Some(row)) => usize::from_be_bytes(row.value[..].try_into().unwrap()),
            Ok(None) => 0,
            Err(_) => return false,
        };
        assert_eq!(recovered.damage, [], "{}", self.said);
        assert!(
            (self.durable..self.moments.len()).contains(&moment),
            "{}: {} was durable, {} written, {moment} came back",
            self.said,
            self.durable,
            self.moments.len() - 1
        );
        self.moments.truncate(moment + 1);
        self.entered.retain(|(of, ..)| *of <= moment);
        self.durable = moment;
        self.store = Some((store, writer));
        true
    }

    /// Some transactions, synced, perhaps after another try.
    fn work(&mut self) {
        let mut batch = Batch::new();
        for _ in 0..=self.random.below(6) {
            let mut model = self.moments.last().unwrap().clone();
            let moment = self.moments.len();
            batch.put(MOMENT.0, MOMENT.1, &moment.to_be_bytes());
            if self.random.below(2) == 0 {
                self.enter(&mut batch, moment);
            }
            self.random.transaction(&mut batch, &mut model, 0);
            self.moments.push(model);
        }
        let records = [batch.take()];
        let (store, writer) = self.store.as_mut().unwrap();
        for _ in 0..2 {
            let Ok(appended) = writer.append(&records, 1_000) else {
                break;
            };
            if writer.sync().is_ok() {
                store.apply(&appended).unwrap();
                self.durable = self.moments.len() - 1;
                return;
            }
        }
        // A server would refuse; here the process ends, so that what came of it can be told.
        self.stop(true);
    }

    fn enter(&mut self, batch: &mut Batch, moment: usize) {
        let id = MessageId(1_000_000 + moment as u64);
        let body = format!("t/{}:{}", self.random.below(4), "x".repeat(moment % 30));
        let streams = match self.random.below(3) {
            0 => vec![ALL],
            1 => vec![LAST],
            _ => vec![ALL, LAST],
        };
        batch.message(id, u64::MAX, body.as_bytes());
        batch.enter(id, streams.iter().copied());
        self.entered.push((moment, streams, body));
    }

    fn retire(&mut self) {
        for _ in 0..=self.random.below(8) {
            let _ = self.store().streams().maintain_step(LATER_MS);
            if !matches!(self.store().retire_step(0), Ok(true)) {
                break;
            }
        }
    }

    /// Holds everything against the model of the moment.
    fn check(&self) {
        let (store, said) = (self.store(), &self.said);
        let model = self.moments.last().unwrap();
        self.check_streams();
        store.commit(0).unwrap();
        self.check_streams();
        for queue in 0..6 {
            let read = store.read_queue(QueueId(queue), 0, usize::MAX, u64::MAX);
            let read: Vec<_> = read
                .unwrap()
                .entries
                .into_iter()
                .map(|entry| {
                    let body = entry.body.map(|body| body.len());
                    (entry.id.0, entry.options.to_vec(), body)
                })
                .collect();
            let owed = model.queues.get(&queue).into_iter().flatten();
            let owed: Vec<_> = owed
                .map(|(id, options)| (*id, options.clone(), Some(model.messages[id].1)))
                .collect();
            assert_eq!(read, owed, "{said}: queue {queue}");
        }
        for table in [0, 1, 2, 9] {
            let rows: BTreeMap<_, _> = store
                .rows(Table(table))
                .unwrap()
                .map(|row| {
                    let row = row.unwrap();
                    (
                        row.key.to_vec(),
                        (row.value.to_vec(), row.message.map(|id| id.0)),
                    )
                })
                .collect();
            let standing: BTreeMap<_, _> = model
                .rows
                .iter()
                .filter(|((of, _), row)| *of == table && !row.is_tombstone())
                .map(|((_, key), row)| (key.clone(), (row.value.clone(), row.id)))
                .collect();
            assert_eq!(rows, standing, "{said}: table {table}");
            for (_, id) in rows.into_values() {
                if let Some(id) = id {
                    let body = store.message(MessageId(id)).unwrap();
                    assert_eq!(body.as_deref(), Some(b"retained".as_slice()), "{said}");
                }
            }
        }
    }

    /// Everything that entered is there once, where it always was. Of a compacted stream at least the last of each key is,
    /// and nothing else than what entered.
    fn check_streams(&self) {
        for stream in [ALL, LAST] {
            let entered: Vec<(u64, &str)> = self
                .entered
                .iter()
                .filter(|(_, streams, _)| streams.contains(&stream))
                .zip(0..)
                .map(|((.., body), offset)| (offset, body.as_str()))
                .collect();
            let read = self.read_stream(stream);
            let read: Vec<_> = read.iter().map(|(at, body)| (*at, body.as_str())).collect();
            let said = &self.said;
            if stream == ALL {
                assert_eq!(read, entered, "{said}");
                continue;
            }
            assert!(read.is_sorted_by(|one, other| one.0 < other.0), "{said}");
            assert!(
                read.iter().all(|it| entered.contains(it)),
                "{said}: {read:?}, {entered:?}"
            );
            for topic in ["t/0:", "t/1:", "t/2:", "t/3:"] {
                let last = entered.iter().rfind(|(_, body)| body.starts_with(topic));
                let is_there = last.is_none_or(|last| read.contains(last));
                assert!(is_there, "{said}: {last:?} is gone, {read:?}");
            }
        }
    }

    fn read_stream(&self, stream: StreamId) -> Vec<(u64, String)> {
        let mut all = Vec::new();
        let mut offset = 0;
        loop {
            let streams = self.store().streams();
            let read = streams.read(stream, offset, Filter::All, (9, 500), LATER_MS);
            let read = read.unwrap().unwrap();
            all.extend(read.records.iter().map(|record| {
                let body = String::from_utf8(record.body().to_vec()).unwrap();
                (record.offset, body)
            }));
            assert!(read.is_end || read.next > offset, "{}", self.said);
            offset = read.next;
            if read.is_end {
                return all;
            }
        }
    }
}

/// Bodies are a topic, a colon and the rest.
fn describe(body: &[u8]) -> Option<Described<'_>> {
    let (topic, _) = std::str::from_utf8(body).ok()?.split_once(':')?;
    Some(Described {
        topic,
        key: None,
        is_tombstone: false,
    })
}

fn play(seed: u64) {
    let steps = Run::new(seed, Plan::Nothing).script();
    let mut random = Random::new(seed ^ 0xfa11);
    for _ in 0..PLANS {
        let step = random.below(steps);
        let plan = match random.below(4) {
            0 | 1 => Plan::Crash(step),
            2 => Plan::Fault(Fault::Io, step, 1 + random.below(4)),
            _ => Plan::Fault(Fault::Full, step, 1 + random.below(40)),
        };
        Run::new(seed, plan).script();
    }
}

#[test]
fn everything_synced_comes_back_whatever_the_disk_does() {
    let seeds = std::env::var("WAYPOST_SEEDS").unwrap_or_else(|_| "0..4".to_owned());
    let (from, to) = seeds.split_once("..").unwrap();
    for seed in from.parse::<u64>().unwrap()..to.parse().unwrap() {
        play(seed);
    }
}

/// Goal: retirement leaves in the log all that the views come from, over many segments, and again and again. Method: work
/// with commits and all the retirement there is in between; every now and then the views are made again from the log.
#[test]
fn the_log_alone_says_the_same_after_much_retirement() {
    for seed in 500..506 {
        let mut run = Run::new(seed, Plan::Nothing);
        run.options.log.segment_bytes = 900;
        for round in 0..120 {
            assert!(run.open());
            run.work();
            if run.random.below(3) == 0 {
                run.store().commit(0).unwrap();
                while run.store().retire_step(0).unwrap() {}
            }
            if round % 20 == 19 {
                run.stop(false);
                run.disk.remove(views::FILE).unwrap();
                assert!(run.open());
                run.check();
            }
        }
    }
}
