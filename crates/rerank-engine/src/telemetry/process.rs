//! What the process itself uses: processor time of all its threads, and resident memory.

use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Reads the operating system's account of this process, where it keeps one that can be read.
pub(super) struct ProcessClock {
    system: Option<System>,
    cpu: Duration,
}

/// What was used since the tick before.
pub(super) struct Usage {
    pub(super) cpu: Duration,
    pub(super) resident_bytes: u64,
}

impl ProcessClock {
    pub(super) fn start() -> Self {
        let mut clock = Self { system: System::new().ok(), cpu: Duration::ZERO };
        clock.tick();
        clock
    }

    pub(super) fn tick(&mut self) -> Option<Usage> {
        let system = self.system.as_mut()?;
        let pid = Pid::from_u32(std::process::id());
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, kind);
        let process = system.process(pid)?;
        let cpu = Duration::from_millis(process.accumulated_cpu_time());
        let usage = Usage { cpu: cpu.saturating_sub(self.cpu), resident_bytes: process.memory() };
        self.cpu = cpu;
        Some(usage)
    }
}
