//! Child processes that end with this one: on success, on an error, and on Ctrl-C or SIGTERM.

use std::{
    io,
    process::{Child, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};

/// Leaders of the process groups that are alive.
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// How long a child may take to end when this program is interrupted.
const GRACE: Duration = Duration::from_secs(3);

fn groups() -> MutexGuard<'static, Vec<Pid>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on an interrupt ends the children first.
pub(super) fn end_with_this_process() -> Result<()> {
    #[expect(clippy::exit, reason = "an interrupted command ends here, with the status that shells expect")]
    let interrupted = || {
        // Held to the end, so that the main thread cannot start another child meanwhile.
        let groups = groups();
        signal(&groups, Signal::TERM);
        let until = Instant::now() + GRACE;
        while Instant::now() < until && groups.iter().any(|leader| is_running(*leader)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        signal(&groups, Signal::KILL);
        eprintln!("\ninterrupted; no process is left behind");
        std::process::exit(130);
    };
    ctrlc::set_handler(interrupted).context("cannot watch for Ctrl-C")
}

/// Whether a child still runs; one that has ended is reaped, and then unknown.
fn is_running(child: Pid) -> bool {
    matches!(waitpid(Some(child), WaitOptions::NOHANG), Ok(None))
}

fn signal(groups: &[Pid], signal: Signal) {
    for group in groups {
        // A group that has ended meanwhile is what was wanted.
        let _ = kill_process_group(*group, signal);
    }
}

/// A child in a process group of its own, so that a Ctrl-C in the terminal reaches it through this program and with all
/// that it started. Killed when dropped.
#[derive(Debug)]
pub(super) struct Guarded {
    child: Child,
    group: Pid,
    ended: bool,
}

impl Guarded {
    /// Starts the child.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let mut alive = groups();
        let child = command.process_group(0).spawn()?;
        let group = Pid::from_child(&child);
        alive.push(group);
        Ok(Self { child, group, ended: false })
    }

    /// The child, for its pipes.
    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its status, if it has ended by itself.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        self.note_end(status.is_some());
        Ok(status)
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.note_end(true);
        Ok(status)
    }

    /// Asks it to end with SIGTERM and waits; an error if it takes longer than `patience`.
    pub(super) fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        signal(&[self.group], Signal::TERM);
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        anyhow::bail!("process {} did not end within {} s after SIGTERM", self.child.id(), patience.as_secs())
    }

    fn note_end(&mut self, ended: bool) {
        if ended && !self.ended {
            self.ended = true;
            groups().retain(|group| *group != self.group);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if !self.ended {
            signal(&[self.group], Signal::KILL);
            let _ = self.child.wait();
            self.note_end(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, process::Stdio, sync::mpsc};

    use super::*;

    /// A shell with a child of its own, which is in the group too and holds the pipe.
    fn sleeper() -> Guarded {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & wait"]).stdout(Stdio::piped());
        Guarded::spawn(&mut command).expect("sh starts")
    }

    #[test]
    fn a_dropped_child_ends_with_what_it_started() {
        let mut child = sleeper();
        let group = child.group;
        let mut pipe = child.child().stdout.take().unwrap();
        drop(child);
        assert!(!groups().contains(&group));
        // The pipe is at its end only when every process that could write to it is gone.
        let (at_end, told) = mpsc::channel();
        std::thread::spawn(move || at_end.send(pipe.read_to_end(&mut Vec::new())));
        assert!(matches!(told.recv_timeout(Duration::from_secs(10)), Ok(Ok(0))));
    }

    #[test]
    fn a_child_stops_on_sigterm() {
        let mut child = sleeper();
        assert!(is_running(child.group));
        assert!(!child.stop(Duration::from_secs(5)).unwrap().success());
        assert!(child.ended);
    }
}
