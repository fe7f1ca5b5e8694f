//! Goal: whatever the disk does, what was synced is there, in order and whole, and nothing else is but what was appended
//! after it. Method: a script made from a seed, run once for each of its I/O steps with one of the faults there, and for
//! the first seeds with each of them, against a model; on failure the seed, the step and the fault are in the message.
//! `WAYPOST_SEEDS=FROM..TO` says which seeds.

use std::collections::BTreeSet;

use super::*;
use crate::{
    disk::{Disk, Fault},
    log::SegmentKind,
};
use waypost_encrypt::MasterKey;

/// Every fault at every step of the seeds before this one. Of the others each step has one fault, another in each seed:
/// ten times as many scripts in the same time.
const WHOLE: u64 = 3;

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    /// The power goes at this step.
    Crash(u64),
    /// So many steps from this one on fail.
    Fault(Fault, u64, u64),
    /// One step fails, and later the power goes.
    Both(Fault, u64, u64),
}

/// What must be there.
#[derive(Debug, Default)]
struct Model {
    /// Synced, in order.
    durable: Vec<u64>,
    /// Appended since, in order.
    pending: Vec<u64>,
    /// Refused since the last sync, each time in order: nobody was promised that it is there, nor that it is not, until
    /// something later is durable.
    refused: Vec<Vec<u64>>,
    /// In segments that were perhaps taken away.
    removed: BTreeSet<u64>,
    /// In kept segments for good.
    kept: BTreeSet<u64>,
    /// Perhaps there.
    kept_perhaps: BTreeSet<u64>,
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}

struct Run {
    said: String,
    /// Whether what is there can perhaps not be read.
    fails_reads: bool,
    disk: SimulatedDisk,
    options: LogOptions,
    crash_at: Option<u64>,
    log: Option<(LogWriter<SimulatedDisk>, LogReader<SimulatedDisk>)>,
    model: Model,
    next: u64,
}

impl Run {
    fn new(seed: u64, plan: Plan) -> Self {
        let mut dice = Dice(seed);
        let compress = waypost_compress::registry();
        let options = LogOptions {
            segment_bytes: 600 + dice.below(4000),
            block_bytes: usize::try_from(50 + dice.below(500)).unwrap(),
            compress: &compress[usize::try_from(dice.below(compress.len() as u64)).unwrap()],
            key: (dice.below(2) == 0).then(|| Arc::new(MasterKey::new([3; 32]))),
            older_keys: vec![],
        };
        let disk = SimulatedDisk::new(seed);
        let mut crash_at = None;
        match plan {
            Plan::Nothing => {}
            Plan::Crash(step) => crash_at = Some(step),
            Plan::Fault(fault, step, times) => disk.fail_at(step, fault, times),
            Plan::Both(fault, step, later) => {
                disk.fail_at(step, fault, 1);
                crash_at = Some(later);
            }
        }
        if let Some(step) = crash_at {
            disk.crash_at(step);
        }
        Self {
            said: format!("seed {seed}, {plan:?}"),
            fails_reads: plan != Plan::Nothing,
            disk,
            options,
            crash_at,
            log: None,
            model: Model::default(),
            next: 0,
        }
    }

    /// Runs the script of a seed; gives the number of its steps.
    fn script(&mut self, seed: u64) -> u64 {
        let mut dice = Dice(seed ^ 0x5eed);
        for _ in 0..16 {
            self.open(false);
            match dice.below(14) {
                0..5 => self.append(&mut dice),
                5..8 => self.sync(),
                8 => {
                    self.append(&mut dice);
                    self.append(&mut dice);
                    self.sync();
                }
                9..12 => self.retire(&mut dice),
                12 => self.restart(false),
                _ => self.restart(dice.below(2) == 0),
            }
            if self.crash_at.is_some_and(|step| self.disk.steps() > step) {
                self.restart(true);
            }
        }
        let steps = self.disk.steps();
        self.restart(true);
        self.disk.heal();
        self.open(true);
        // It goes on as if nothing had been.
        self.append(&mut dice);
        self.sync();
        self.restart(true);
        self.open(true);
        steps
    }

    /// Opens the log if it is not, and holds what is in it against the model. A disk that fails is tried again.
    fn open(&mut self, must: bool) {
        if self.log.is_some() {
            return;
        }
        let opened = self.read();
        let (writer, reader, found, kept, damage) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                assert!(!must, "{}: {error}", self.said);
                return;
            }
        };
        assert!(damage.is_empty(), "{}: {damage:?}", self.said);
        let model = &mut self.model;
        let found: Vec<_> = found
            .into_iter()
            .filter(|it| !model.removed.contains(it))
            .collect();
        let promised: Vec<_> = model
            .durable
            .iter()
            .copied()
            .filter(|it| !model.removed.contains(it))
            .collect();
        let context = format!("{}: found {found:?}, {model:?}", self.said);
        let (first, rest) = found.split_at_checked(promised.len()).expect(&context);
        assert_eq!(first, promised, "{context}");
        let is_later = model.pending.starts_with(rest)
            || model
                .refused
                .iter()
                .any(|refused| refused.starts_with(rest));
        assert!(is_later, "{context}");
        assert!(model.kept.is_subset(&kept), "{context}: {kept:?}");
        assert!(
            kept.iter()
                .all(|it| model.kept.contains(it) || model.kept_perhaps.contains(it)),
            "{context}: {kept:?}"
        );
        model.durable = found;
        model.pending.clear();
        model.refused.clear();
        model.kept = kept;
        model.kept_perhaps.clear();
        self.log = Some((writer, reader));
    }

    #[expect(clippy::type_complexity, reason = "what a start gives, in one place")]
    fn read(
        &self,
    ) -> Result<
        (
            LogWriter<SimulatedDisk>,
            LogReader<SimulatedDisk>,
            Vec<u64>,
            BTreeSet<u64>,
            Vec<crate::log::LogDamage>,
        ),
        LogError,
    > {
        let mut recovery = Recovery::open(Arc::new(self.disk.clone()), self.options.clone(), None)?;
        let kept_segments: Vec<_> = recovery
            .segments()
            .into_iter()
            .filter(|it| it.kind == SegmentKind::Kept)
            .map(|it| it.number)
            .collect();
        let (mut found, mut kept) = (Vec::new(), BTreeSet::new());
        while let Some(block) = recovery.next_block()? {
            if kept_segments.contains(&block.position.segment) {
                kept.extend(numbers(&block.records));
            } else {
                found.extend(numbers(&block.records));
            }
        }
        let (writer, reader, recovered) = recovery.finish()?;
        Ok((writer, reader, found, kept, recovered.damage))
    }

    fn append(&mut self, dice: &mut Dice) {
        let mut batches = Vec::new();
        let mut appended = Vec::new();
        for _ in 0..dice.below(4) {
            let mut batch = Vec::new();
            for _ in 0..dice.below(4) {
                let bytes = usize::try_from(dice.below(300)).unwrap();
                batch.extend(transaction(self.next, bytes));
                appended.push(self.next);
                self.next += 1;
            }
            batches.push(batch);
        }
        let Some((writer, reader)) = &mut self.log else {
            return;
        };
        let model = &mut self.model;
        let before = writer.current();
        match writer.append(&batches, self.next) {
            Ok(written) => {
                if before.is_some() && before != writer.current() {
                    // All before is synced, and what was refused is out of reach.
                    model.refused.clear();
                }
                model.pending.extend(appended);
                if let Some(block) = written.blocks.first() {
                    let read = reader.read_block(block.position);
                    assert!(read.is_ok() || self.fails_reads, "{}: {read:?}", self.said);
                }
            }
            Err(_) if writer.current().is_none() || writer.current() != before => {
                // A failed write made it sync what was pending, and that failed.
                let lost = std::mem::take(&mut model.pending);
                model.refused.push([lost, appended].concat());
            }
            Err(_) => model
                .refused
                .push([model.pending.clone(), appended].concat()),
        }
    }

    fn sync(&mut self) {
        let Some((writer, _)) = &mut self.log else {
            return;
        };
        let model = &mut self.model;
        match writer.sync() {
            Ok(()) => {
                let pending = std::mem::take(&mut model.pending);
                // What was refused behind it may still be there, what was refused before it not.
                let behind =
                    |refused: &Vec<u64>| Some(refused.strip_prefix(&pending[..])?.to_vec());
                model.refused = model.refused.iter().filter_map(behind).collect();
                model.durable.extend(pending);
            }
            Err(_) => model.refused.push(std::mem::take(&mut model.pending)),
        }
    }

    /// Takes the oldest segment away, and what is in it into a kept one.
    fn retire(&mut self, dice: &mut Dice) {
        self.sync();
        let Some((writer, reader)) = &mut self.log else {
            return;
        };
        let model = &mut self.model;
        let segments = reader.segments();
        let oldest = segments.iter().find(|it| it.kind == SegmentKind::Log);
        let Some(oldest) =
            oldest.filter(|it| Some(it.number) != writer.current() && writer.current().is_some())
        else {
            return;
        };
        let blocks: Vec<_> = reader.blocks(oldest.number).unwrap().collect();
        if blocks.iter().any(Result::is_err) {
            // It failed while it was read: not now.
            return;
        }
        let all: Vec<_> = blocks
            .iter()
            .flatten()
            .flat_map(|block| numbers(&block.records))
            .collect();
        let wanted: Vec<_> = all.iter().copied().filter(|_| dice.below(3) == 0).collect();
        let Ok(mut kept) = reader.keep(self.next) else {
            return;
        };
        let batches: Vec<_> = wanted.iter().map(|it| transaction(*it, 20)).collect();
        model.kept_perhaps.extend(&wanted);
        if kept.append(&batches, self.next).is_err() {
            return;
        }
        if kept.finish().is_ok() {
            model.kept.extend(&wanted);
            model.removed.extend(&all);
            let _ = reader.remove(oldest.number);
        }
    }

    /// The process dies, or the power goes.
    fn restart(&mut self, is_crash: bool) {
        // What a process does that dies: nothing more.
        if let Some((writer, _)) = self.log.take() {
            std::mem::forget(writer);
        }
        if is_crash || self.crash_at.is_some_and(|step| self.disk.steps() > step) {
            self.disk.crash();
            self.crash_at = None;
        } else {
            self.disk.kill();
        }
    }
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("WAYPOST_SEEDS") else {
        return 0..count;
    };
    let (from, to) = text.split_once("..").expect("WAYPOST_SEEDS=FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

fn run(seed: u64, plan: Plan) -> u64 {
    Run::new(seed, plan).script(seed)
}

#[test]
fn what_was_synced_is_there_whatever_the_disk_does() {
    for seed in seeds(3) {
        let steps = run(seed, Plan::Nothing);
        let mut dice = Dice(seed ^ 0xd15c);
        for step in 0..steps {
            let plans = plans(step, &mut dice);
            if seed < WHOLE {
                for plan in plans {
                    run(seed, plan);
                }
            } else {
                let which = usize::try_from(dice.below(plans.len() as u64)).unwrap();
                run(seed, plans[which]);
            }
        }
    }
}

/// What can go wrong from a step on.
fn plans(step: u64, dice: &mut Dice) -> Vec<Plan> {
    let mut plans = vec![Plan::Crash(step)];
    for fault in [Fault::Io, Fault::Write, Fault::Full, Fault::FlippedBit] {
        plans.push(Plan::Fault(fault, step, 1));
        plans.push(Plan::Both(fault, step, step + dice.below(20)));
    }
    for fault in [Fault::Write, Fault::Full] {
        plans.push(Plan::Fault(fault, step, 2 + dice.below(10)));
    }
    plans
}

/// The disk is full for a while: what was there is there, and it goes on by itself.
#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    for seed in seeds(20) {
        let mut dice = Dice(seed);
        let mut run = Run::new(seed, Plan::Nothing);
        run.said = format!("seed {seed}, a full disk");
        run.open(true);
        run.append(&mut dice);
        run.sync();
        for _ in 0..6 {
            run.disk.set_capacity(dice.below(20_000));
            for _ in 0..4 {
                run.append(&mut dice);
                run.sync();
            }
            run.disk.set_capacity(u64::MAX);
            let before = run.model.durable.len();
            let next = run.next;
            run.append(&mut dice);
            run.sync();
            assert_eq!(
                run.model.durable.len() - before,
                usize::try_from(run.next - next).unwrap(),
                "seed {seed}"
            );
            assert!(
                run.disk
                    .list()
                    .unwrap()
                    .iter()
                    .all(|name| name.strip_suffix(".new").is_none())
            );
        }
        run.restart(dice.below(2) == 0);
        run.open(true);
    }
}
