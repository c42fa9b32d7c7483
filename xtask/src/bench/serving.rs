//! An experiment on servers: build, then round by round start each server, load it, stop it, so that a slow hour of the
//! machine meets all of them (A B A B).

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::ProgressBar;
use rerank_report::{
    BenchResult, Cell, Experiment as Account, Outcome, SCHEMA_VERSION, ServerUnderTest, ServingResult,
    check_run,
};

use super::{
    BenchArgs,
    experiment::{Experiment, LoadSpec, ServerSpec},
    load::{LoadGenerator, bar},
    machine, output,
    server::{Builds, Running, Start},
};
use crate::model;

/// What one server has shown so far.
struct Subject {
    spec: ServerSpec,
    program: std::path::PathBuf,
    outcome: Option<Outcome>,
    /// One cell a load, in the loads' order; filled from the first round on.
    cells: Vec<Cell>,
}

/// The command.
pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let experiment = Experiment::read(args)?;
    let started = output::now()?;
    let environment = machine::environment(args.machine.as_deref(), Builds::DESCRIPTION)?;
    let model = model::resolve(&experiment.model)?;
    let mut builds = Builds::default();
    let generator = LoadGenerator { program: builds.load_generator()? };
    let mut subjects = Vec::new();
    for spec in experiment.servers() {
        subjects.push(Subject { program: builds.server(&spec)?, spec, outcome: None, cells: Vec::new() });
    }
    let loads = experiment.loads();
    let runs = experiment.rounds * subjects.len() as u64 * loads.len() as u64;
    let bar = bar(runs * (experiment.seconds + experiment.warm_up));
    for round in 1..=experiment.rounds {
        for subject in &mut subjects {
            subject.round(round, &experiment, &model, &loads, &generator, &bar)?;
        }
    }
    bar.finish_and_clear();

    let result = ServingResult {
        schema_version: SCHEMA_VERSION,
        experiment: Account {
            name: args.experiment.clone(),
            description: experiment.description.clone(),
            overrides: args.overrides(),
            started,
            finished: output::now()?,
        },
        environment: environment.clone(),
        yardstick: experiment.yardstick.clone(),
        servers: subjects.iter().filter_map(|subject| subject.account(&model)).collect(),
        cells: by_load(&subjects, loads.len()),
    };
    let problems = problems(&result);
    output::publish(args, &environment, &BenchResult::Serving(Box::new(result)))?;
    if !problems.is_empty() {
        bail!("the result must not be used:\n  {}", problems.join("\n  "));
    }
    Ok(())
}

impl Subject {
    fn round(
        &mut self,
        round: u64,
        experiment: &Experiment,
        model: &str,
        loads: &[LoadSpec],
        generator: &LoadGenerator,
        bar: &ProgressBar,
    ) -> Result<()> {
        if matches!(self.outcome, Some(Outcome::Refused { .. })) {
            return Ok(());
        }
        let what = |step: &str| format!("round {round}/{} {} {step}", experiment.rounds, self.spec.label);
        bar.set_message(what("starts"));
        let server = match Running::start(&self.program, &self.spec, model)? {
            Start::Ready(server) => server,
            Start::Refused { reason } => {
                ensure!(round == 1, "{} served before and now refuses to start: {reason}", self.spec.label);
                bar.suspend(|| eprintln!("{} refuses to start: {reason}", self.spec.label));
                self.outcome = Some(Outcome::Refused { reason });
                return Ok(());
            }
        };
        bar.set_message(what("parity"));
        let parity = if self.outcome.is_none() { Some(generator.parity(&server)?) } else { None };
        for (index, load) in loads.iter().enumerate() {
            let flags = [experiment.load_flags(), load.flags.clone()].concat();
            let found = generator
                .run(&server, &flags, round, bar, &what(&load.label))
                .with_context(|| what(&load.label))?;
            let identity = found.identity.context("the server told nothing of itself")?;
            match &self.outcome {
                None => {
                    let parity = parity.clone().context("parity is checked before the first run")?;
                    self.outcome = Some(Outcome::Served { identity: Box::new(identity), parity });
                }
                Some(Outcome::Served { identity: known, .. }) => {
                    ensure!(**known == identity, "{} is not the server that it was before", self.spec.label);
                }
                Some(Outcome::Refused { .. }) => {}
            }
            match self.cells.get_mut(index) {
                Some(cell) => {
                    ensure!(
                        cell.workload == found.workload,
                        "{} sent other texts than before",
                        what(&load.label)
                    );
                    cell.runs.push(found.run);
                }
                None => self.cells.push(Cell {
                    server: self.spec.label.clone(),
                    load: found.load,
                    workload: found.workload,
                    runs: vec![found.run],
                }),
            }
        }
        server.stop()
    }

    fn account(&self, model: &str) -> Option<ServerUnderTest> {
        let variables = self.spec.environment.iter().map(|(name, value)| format!("{name}={value}"));
        let command = ["--backend", &self.spec.backend, "--model", model].map(str::to_owned);
        Some(ServerUnderTest {
            label: self.spec.label.clone(),
            backend: self.spec.backend.clone(),
            command: variables.chain(command).chain(self.spec.flags.clone()).collect(),
            outcome: self.outcome.clone()?,
        })
    }
}

/// Cells side by side: all servers under the first load, then under the second.
fn by_load(subjects: &[Subject], loads: usize) -> Vec<Cell> {
    (0..loads)
        .flat_map(|load| subjects.iter().filter_map(move |subject| subject.cells.get(load).cloned()))
        .collect()
}

/// Everything that makes the result worthless.
fn problems(result: &ServingResult) -> Vec<String> {
    let mut problems = Vec::new();
    if result.cells.is_empty() {
        problems.push("no server came up".to_owned());
    }
    for cell in &result.cells {
        for problem in cell.runs.iter().flat_map(check_run) {
            problems.push(format!("{}, {}: {}", cell.server, cell.load.describe(), problem.0));
        }
    }
    for server in &result.servers {
        if let Outcome::Served { parity, .. } = &server.outcome {
            problems
                .extend(parity.failures().into_iter().map(|failure| format!("{}: {failure}", server.label)));
        }
    }
    problems
}
