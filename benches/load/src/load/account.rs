//! What a process spends, read from /proc.

use std::fs;

/// CPU time of all threads of a process.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// By the scheduler's clock, in nanoseconds; it forgets threads that have ended.
    scheduled: f64,
    /// By the process's own counters, in ticks. They forget nothing, and are good to a tick each.
    user_ticks: f64,
    system_ticks: f64,
}

/// Linux tells times to programs in hundredths of a second, whatever it counts itself (`USER_HZ`).
const TICK_US: f64 = 10_000.0;

impl Usage {
    /// # Panics
    /// When the process is gone: there is nothing left to measure.
    pub fn of(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the server runs");
        // The name in the second field may hold anything, so count from its end; utime and stime are fields 14 and 15.
        let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..].split(' ').collect();
        let ticks = |field: usize| fields[field - 3].parse().expect("a number of ticks");
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs").flatten();
        let scheduled = threads.filter_map(|thread| {
            // A thread may end between the two.
            let times = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            times.split(' ').next()?.parse::<f64>().ok()
        });
        Self { scheduled: scheduled.sum(), user_ticks: ticks(14), system_ticks: ticks(15) }
    }

    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            scheduled: self.scheduled - earlier.scheduled,
            user_ticks: self.user_ticks - earlier.user_ticks,
            system_ticks: self.system_ticks - earlier.system_ticks,
        }
    }

    /// In microseconds. By the exact clock, unless threads have ended that spent more than the ticks' error.
    pub fn cpu_us(&self) -> f64 {
        let (exact, whole) = (self.scheduled / 1e3, (self.user_ticks + self.system_ticks) * TICK_US);
        if exact < whole - 3.0 * TICK_US { whole } else { exact }
    }

    /// The kernel's part of [`Usage::cpu_us`].
    pub fn system_us(&self) -> f64 {
        self.cpu_us() * self.system_ticks / (self.user_ticks + self.system_ticks).max(1.0)
    }
}

/// The proportional set size: a page that two processes share counts half.
pub fn pss_bytes(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the server runs");
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).expect("a line with the size");
    let kibibytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a size");
    kibibytes * 1024
}
