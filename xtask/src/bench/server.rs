//! A server under test: built with one backend only, started on free ports, awaited, stopped with SIGTERM.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{children::Guarded, experiment::ServerSpec};
use crate::process::{self, cargo, root};

/// A compiled backend may take minutes to load.
const READY_WITHIN: Duration = Duration::from_mins(10);
/// The server's own drain timeout is 30 s.
const STOP_WITHIN: Duration = Duration::from_secs(40);

/// Everything that benchmarks build and keep: one target folder, so that backends share what they have in common.
pub(super) fn workshop() -> PathBuf {
    root().join("target/benchmarks")
}

/// Programs built with profile `bench`, each kept under its own name, since the next build of the same package with other
/// features takes its place.
#[derive(Default)]
pub(super) struct Builds {
    built: HashMap<String, PathBuf>,
}

impl Builds {
    /// What the build was, for the result.
    pub(super) const DESCRIPTION: &'static str =
        "profile bench; --no-default-features --features http,grpc,embedded-model,<backend>";

    /// The server with this backend and no other.
    pub(super) fn server(&mut self, spec: &ServerSpec) -> Result<PathBuf> {
        let mut features = vec!["http", "grpc", "embedded-model", &spec.backend];
        features.extend(spec.features.iter().map(String::as_str));
        let name = format!("rerank-server-{}", features[3..].join("-"));
        self.build(name, "rerank-server", &["--no-default-features", "--features", &features.join(",")])
    }

    /// The load generator.
    pub(super) fn load_generator(&mut self) -> Result<PathBuf> {
        self.build("rerank-bench".to_owned(), "rerank-bench", &[])
    }

    fn build(&mut self, name: String, package: &str, arguments: &[&str]) -> Result<PathBuf> {
        if let Some(program) = self.built.get(&name) {
            return Ok(program.clone());
        }
        let target = workshop().join("build");
        let mut build = cargo("build --profile bench --quiet");
        build.args(["--package", package, "--bin", package]).args(arguments).arg("--target-dir").arg(&target);
        process::run(&mut build)?;
        let program = workshop().join("programs").join(&name);
        fs::create_dir_all(program.parent().expect("it lies in a folder"))?;
        // Cargo's profile `bench` shares the folder of `release`.
        fs::copy(target.join("release").join(package), &program)
            .with_context(|| format!("cannot keep {}", program.display()))?;
        self.built.insert(name, program.clone());
        Ok(program)
    }
}

/// A server that is ready.
pub(super) struct Running {
    process: Guarded,
    pub(super) http: SocketAddr,
    pub(super) grpc: SocketAddr,
    log: PathBuf,
}

/// What came of a start.
pub(super) enum Start {
    Ready(Running),
    /// The server said that it cannot honour what was asked, and ended.
    Refused {
        reason: String,
    },
}

impl Running {
    /// Starts `program` and waits until it is ready.
    pub(super) fn start(program: &Path, spec: &ServerSpec, model: &str) -> Result<Start> {
        let (http, grpc) = (free_address()?, free_address()?);
        let log = workshop().join("logs").join(format!("{}.log", spec.label.replace([' ', '/'], "_")));
        fs::create_dir_all(log.parent().expect("it lies in a folder"))?;
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program);
        command
            .args(["--backend", &spec.backend, "--model", model])
            .args(["--http", &http.to_string(), "--grpc", &grpc.to_string()])
            .args(&spec.flags)
            .current_dir(root())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        // The experiment alone decides how the server runs.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RERANK_"))
        {
            command.env_remove(name);
        }
        command.envs(spec.environment.iter().map(|(name, value)| (name, value)));
        let mut process =
            Guarded::spawn(&mut command).with_context(|| format!("cannot start {}", program.display()))?;
        let until = Instant::now() + READY_WITHIN;
        while Instant::now() < until {
            if let Some(status) = process.try_wait()? {
                // What cannot be honoured is refused with 1. Anything else is a fault, and no result.
                let refused = status.code() == Some(1);
                ensure!(
                    refused,
                    "{} ended with {status} before it was ready; see {}",
                    spec.label,
                    log.display()
                );
                return Ok(Start::Refused { reason: last_words(&log)? });
            }
            match get(http, "/readyz") {
                Ok((200, _)) => return Ok(Start::Ready(Self { process, http, grpc, log })),
                Ok((_, body)) if body.contains("\"unready\"") => {
                    return Ok(Start::Refused { reason: last_words(&log)? });
                }
                // Not listening yet, or loading.
                _ => sleep(Duration::from_millis(50)),
            }
        }
        bail!("{} was not ready within {} s; see {}", spec.label, READY_WITHIN.as_secs(), log.display())
    }

    /// Asks the server to drain and end. Ending in any other way is an error.
    pub(super) fn stop(mut self) -> Result<()> {
        let status = self.process.stop(STOP_WITHIN).with_context(|| format!("see {}", self.log.display()))?;
        ensure!(status.success(), "the server ended with {status} after SIGTERM; see {}", self.log.display());
        Ok(())
    }
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?)
}

/// The last lines of a log that hold more than blanks.
fn last_words(log: &Path) -> Result<String> {
    let text = fs::read_to_string(log)?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let words = lines[lines.len().saturating_sub(3)..].join("; ");
    let words = words.trim_start_matches("error: ").to_owned();
    Ok(if words.is_empty() { "it ended without a word".to_owned() } else { words })
}

/// A `GET` in HTTP/1.1 over a fresh connection: status and body. Enough for a probe, and no client to build.
fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let timeout = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status.with_context(|| format!("no HTTP answer: {answer:.40}"))?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_reads_status_and_body() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let n = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno").unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        assert_eq!(get(address, "/readyz").unwrap(), (503, "no".to_owned()));
        assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"));
    }
}
