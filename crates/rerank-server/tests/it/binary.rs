//! The real binary as a child process, which a test that fails takes down with it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// The binary, with nothing of the caller's own configuration in its environment.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rerank-server"));
    for (name, _) in std::env::vars_os() {
        let ours = name.to_string_lossy().starts_with("RERANK_") || name.to_string_lossy().starts_with("HF_");
        if ours {
            command.env_remove(name);
        }
    }
    command.args(arguments).env("COLUMNS", "100");
    command
}

/// A serving child.
pub(crate) struct Running {
    child: Child,
    log: Receiver<String>,
    pub(crate) lines: Vec<String>,
}

impl Running {
    /// Starts to serve on ports that the system chooses.
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let fixed = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"];
        let mut child = command(&[arguments, &fixed].concat())
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, log, lines: Vec::new() }
    }

    /// Reads the log until a line holds `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.log.recv_timeout(Duration::from_mins(1)) else {
                panic!("no `{text}` in the log:\n{}", self.lines.join("\n"))
            };
            self.lines.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits until it listens; the two addresses.
    pub(crate) fn addresses(&mut self) -> (String, String) {
        let line = self.wait_for("listening");
        let address = |name: &str| {
            let value = line.split_once(&format!("{name}=\"")).unwrap().1;
            value.split_once('"').unwrap().0.to_owned()
        };
        (address("http"), address("grpc"))
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end, for half a minute at most.
    pub(crate) fn exit(&mut self) -> ExitStatus {
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.lines.extend(self.log.try_iter());
                return status;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("still running:\n{}", self.lines.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where the child has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
