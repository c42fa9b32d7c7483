//! Loads once, then measures whatever shape it is asked for: the protocol of [`crate::forward`].

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rerank_core::{Backend, BackendFactory, BackendInfo, ModelConfig};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::args::{Args, span};
use super::rows::Shape;
use crate::failure::Failure;

/// More say nothing new, and a backend without cost would write megabytes of them.
const MOST_ITERATIONS: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    shape: Shape,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Loaded<'a> {
    ready: bool,
    backend: &'a BackendInfo,
    model: &'a str,
    model_sha256: &'a str,
    load_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Measured {
    shape: String,
    rows: usize,
    max_len: usize,
    iterations: usize,
    pairs: usize,
    tokens: usize,
    computed_tokens: usize,
    seconds: Vec<f64>,
    logits: Vec<f32>,
}

pub(super) fn run(factory: &'static dyn BackendFactory, args: &Args) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let outcome = serve(factory, args, &mut std::io::stdin().lock(), &mut out);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A driver that has gone away cannot be told; the exit code says it to whoever is left.
            write_line(&mut out, &json!({ "error": failure.to_string() })).ok();
            ExitCode::FAILURE
        }
    }
}

fn serve(
    factory: &'static dyn BackendFactory,
    args: &Args,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let spec = args.spec()?;
    let model = spec.model.clone();
    let start = Instant::now();
    let mut backend = factory.load(&spec)?;
    let loaded = Loaded {
        ready: true,
        backend: backend.info(),
        model: &model.name,
        model_sha256: model.weights.sha256(),
        load_seconds: start.elapsed().as_secs_f64(),
    };
    write_line(out, &loaded)?;
    if !args.shapes.is_empty() {
        for &shape in &args.shapes {
            write_line(out, &measure(&mut *backend, &model.config, shape, args.seconds)?)?;
        }
        return Ok(());
    }
    for line in input.lines() {
        let line = line.map_err(|error| format!("cannot read a request: {error}"))?;
        let request: Request =
            serde_json::from_str(&line).map_err(|error| format!("request `{line}`: {error}"))?;
        write_line(out, &measure(&mut *backend, &model.config, request.shape, span(request.seconds)?)?)?;
    }
    Ok(())
}

fn measure(
    backend: &mut dyn Backend,
    config: &ModelConfig,
    shape: Shape,
    time: Duration,
) -> Result<Measured, Failure> {
    let batch = shape.batch(config)?;
    let logits = backend.score(&batch)?;
    let mut seconds = Vec::new();
    let start = Instant::now();
    while seconds.is_empty() || (start.elapsed() < time && seconds.len() < MOST_ITERATIONS) {
        let iteration = Instant::now();
        let found = backend.score(&batch)?;
        seconds.push(iteration.elapsed().as_secs_f64());
        if found.len() != batch.rows() {
            return Err(format!("{shape}: {} logits for {} rows", found.len(), batch.rows()).into());
        }
    }
    let iterations = seconds.len();
    Ok(Measured {
        shape: shape.to_string(),
        rows: batch.rows(),
        max_len: batch.max_len(),
        iterations,
        pairs: batch.rows() * iterations,
        tokens: batch.tokens() * iterations,
        computed_tokens: backend.info().computed_tokens(batch.shape()) * iterations,
        seconds,
        logits,
    })
}

fn write_line(out: &mut dyn Write, value: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value).map_err(|error| format!("cannot write an answer: {error}"))?;
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure::from(format!("cannot write an answer: {error}")))
}
