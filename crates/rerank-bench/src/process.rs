//! The load generator's own cost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// CPU time of this process since a moment, with all its threads.
pub(crate) struct OwnCpu {
    system: System,
    pid: Pid,
    before: Duration,
    since: Instant,
}

impl OwnCpu {
    /// Starts counting.
    pub(crate) fn start() -> Result<Self> {
        let pid = sysinfo::get_current_pid().map_err(anyhow::Error::msg)?;
        let mut own = Self { system: System::new()?, pid, before: Duration::ZERO, since: Instant::now() };
        own.before = own.accumulated()?;
        own.since = Instant::now();
        Ok(own)
    }

    /// CPU time over wall time since the start, in cores.
    pub(crate) fn cores(mut self) -> Result<f64> {
        let wall = self.since.elapsed();
        let used = self.accumulated()?.saturating_sub(self.before);
        Ok(used.as_secs_f64() / wall.as_secs_f64())
    }

    fn accumulated(&mut self) -> Result<Duration> {
        let refresh = ProcessRefreshKind::nothing().with_cpu();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.pid]), true, refresh);
        let process = self.system.process(self.pid).context("the system does not list this process")?;
        Ok(Duration::from_millis(process.accumulated_cpu_time()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_thread_is_seen() {
        let own = OwnCpu::start().unwrap();
        let until = Instant::now() + Duration::from_millis(400);
        let mut spins = 0_u64;
        while Instant::now() < until {
            spins = std::hint::black_box(spins + 1);
        }
        let cores = own.cores().unwrap();
        // Other tests and other work share the machine, so only the order of magnitude is certain.
        assert!(cores > 0.1, "{cores} cores after {spins} spins");
    }
}
