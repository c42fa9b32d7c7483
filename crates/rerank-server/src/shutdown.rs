//! SIGTERM and SIGINT: the first asks for an orderly end, the second for an immediate one.

use std::future::Future;

/// Starts to listen, and returns what completes with the first signal. A signal that follows ends the process at once,
/// with the status that shells give to a process that a signal ended.
pub fn signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut signals = Signals::listen()?;
    Ok(async move {
        let name = signals.next().await.name;
        tracing::info!(signal = name, "draining; a second signal exits at once");
        tokio::spawn(async move {
            let second = signals.next().await;
            tracing::warn!(signal = second.name, "exiting at once");
            #[expect(clippy::exit, reason = "the user asked twice: nothing is to be waited for any more")]
            std::process::exit(second.status);
        });
    })
}

struct Caught {
    name: &'static str,
    status: i32,
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.terminate.recv() => Caught { name: "SIGTERM", status: 128 + 15 },
            _ = self.interrupt.recv() => Caught { name: "SIGINT", status: 128 + 2 },
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) -> Caught {
        self.0.recv().await;
        Caught { name: "Ctrl-C", status: 130 }
    }
}
