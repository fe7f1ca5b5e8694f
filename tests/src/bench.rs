//! What the programs that measure share: options, cores, what a process takes, medians.

use std::{
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit},
    thread::{CpuSet, sched_setaffinity},
};

/// What a file system in memory says it is.
const TMPFS: u64 = 0x0102_1994;

/// The value of `--name` on the command line.
pub fn option<T: FromStr>(name: &str, default: T) -> T {
    let mut words = std::env::args().skip_while(|word| word != name).skip(1);
    words.next().map_or(default, |word| {
        word.parse()
            .unwrap_or_else(|_| panic!("{name} does not take '{word}'"))
    })
}

/// The one in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The calling thread, and what it starts from now on, runs on that core, if there are so many.
pub fn run_on(core: usize) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut set = CpuSet::new();
    set.set(core.min(cores - 1));
    if let Err(error) = sched_setaffinity(None, &set) {
        eprintln!("threads run on any core: {error}");
    }
}

/// Threads that keep both cores from sleeping, until dropped.
pub struct Awake(Arc<AtomicBool>);

impl Awake {
    /// Starts them, at the lowest priority.
    pub fn keep() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for core in [0, 1] {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                run_on(core);
                setpriority_process(None, 19).expect("the lowest priority");
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// As many open files as the system allows.
pub fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("as many as allowed");
}

/// A figure of `/proc/PID/status` in bytes, such as `VmHWM`.
pub fn memory_bytes(pid: u32, name: &str) -> u64 {
    proc_number(pid, "status", name) * 1024
}

/// A figure of `/proc/PID/io`, such as `rchar`.
pub fn io_bytes(pid: u32, name: &str) -> u64 {
    proc_number(pid, "io", name)
}

fn proc_number(pid: u32, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then(|| value.split_whitespace().next()?.parse().ok())?
    });
    value.unwrap_or_default()
}

/// CPU that a process has used, in nanoseconds, from every thread's `schedstat`.
pub fn cpu_ns(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let of_thread = |thread: std::fs::DirEntry| -> Option<u64> {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    let threads = threads.into_iter().flatten().filter_map(Result::ok);
    threads.filter_map(of_thread).sum()
}

/// Whether a sync costs nothing there, because nothing is kept.
pub fn is_in_memory(directory: &Path) -> bool {
    let found = rustix::fs::statfs(directory).expect("a file system");
    u64::try_from(found.f_type) == Ok(TMPFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_process_tells_what_it_takes() {
        let pid = std::process::id();
        assert!(memory_bytes(pid, "VmHWM") > 0);
        assert!(io_bytes(pid, "rchar") > 0);
        assert!(cpu_ns(pid) > 0);
    }
}
