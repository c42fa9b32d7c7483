//! From a factory to a list of tests, and from a list of tests to an exit code.
#![expect(
    clippy::print_stdout,
    reason = "a test harness reports on stdout, which libtest captures by convention"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use rerank_core::BackendFactory;

use crate::subject::Subject;
use crate::{Case, Expectations};

/// The environment variable that makes the absence of a backend or of one of its devices a failure.
const REQUIRE: &str = "RERANK_REQUIRE";

/// Runs every case on every device and in every dtype that `factory` declares, under the command line that `cargo test`
/// and `cargo nextest` use.
pub fn run(factory: &'static dyn BackendFactory, expectations: &'static Expectations) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A device is shared, and a backend is called serially by contract.
    arguments.test_threads = Some(1);
    let required = std::env::var(REQUIRE).unwrap_or_default();
    libtest_mimic::run(&arguments, trials(factory, expectations, &required)).exit_code()
}

fn trials(
    factory: &'static dyn BackendFactory,
    expectations: &'static Expectations,
    required: &str,
) -> Vec<Trial> {
    let name = factory.name();
    let required: Vec<&str> = required
        .split(',')
        .map(str::trim)
        .filter(|what| *what == name || what.split('/').next() == Some(name))
        .collect();
    let devices = match factory.probe() {
        Ok(devices) if !devices.is_empty() => devices,
        Ok(_) => return vec![absent(name, "the probe found no device", !required.is_empty())],
        Err(unavailable) => return vec![absent(name, &unavailable.reason, !required.is_empty())],
    };
    let mut trials: Vec<Trial> = required
        .iter()
        .filter_map(|what| what.split_once('/'))
        .filter(|(_, device)| devices.iter().all(|found| found.device.to_string() != *device))
        .map(|(_, device)| absent(name, &format!("the probe found no {device}"), true))
        .collect();
    for found in devices {
        for dtype in found.dtypes.clone() {
            let found = found.clone();
            let tolerance = expectations.tolerance(dtype);
            let subject = Arc::new(Subject { factory, found, dtype, tolerance });
            trials.extend(Case::all().map(|case| trial(case, subject.clone(), expectations)));
        }
    }
    trials
}

/// The one test of a backend or device that is not there: ignored, or failed where it was required.
fn absent(backend: &str, reason: &str, required: bool) -> Trial {
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let failure = format!("{REQUIRE} asks for it, but: {reason}");
    Trial::test(format!("unavailable, because {reason}"), move || Err(Failed::from(failure)))
        .with_kind(backend)
        .with_ignored_flag(!required)
}

fn trial(case: Case, subject: Arc<Subject>, expectations: &'static Expectations) -> Trial {
    let kind = subject.name();
    Trial::test(case.to_string(), move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| case.check(&subject)))
            .map_err(|panic| format!("it panicked: {}", panic_message(&*panic)))
            .and_then(|outcome| outcome.map_err(|failure| failure.to_string()));
        judge(outcome, expectations.failure(case, subject.dtype))
    })
    .with_kind(kind)
}

/// A failure that was expected passes, and a pass that was not expected fails.
fn judge(outcome: Result<(), String>, expected: Option<&str>) -> Result<(), Failed> {
    match (outcome, expected) {
        (Ok(()), None) => Ok(()),
        (Err(failure), None) => Err(failure.into()),
        (Err(failure), Some(reason)) => {
            println!("fails as expected, because {reason}: {failure}");
            Ok(())
        }
        (Ok(()), Some(reason)) => Err(format!(
            "it passes, though it was expected to fail because {reason}: take it off the backend's expectations"
        )
        .into()),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use rerank_core::{Backend, BackendError, DType, Device, DeviceInfo, LoadSpec, Unavailable};

    use super::*;

    /// A backend that is only ever probed.
    struct Probed {
        present: bool,
    }

    impl BackendFactory for Probed {
        fn name(&self) -> &'static str {
            "probed"
        }

        fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
            if !self.present {
                return Err(Unavailable::new("no driver:\n install one"));
            }
            Ok(vec![DeviceInfo { device: Device::Cpu, name: "test".to_owned(), dtypes: vec![DType::F32] }])
        }

        fn load(&self, _spec: &LoadSpec) -> Result<Box<dyn Backend>, BackendError> {
            Err(BackendError::unsupported("it is only probed"))
        }
    }

    static ABSENT: Probed = Probed { present: false };
    static PRESENT: Probed = Probed { present: true };

    fn conclusion(factory: &'static dyn BackendFactory, required: &str) -> (u64, u64, u64) {
        let arguments = Arguments { test_threads: Some(1), quiet: true, ..Arguments::default() };
        let end = libtest_mimic::run(&arguments, trials(factory, &Expectations::NONE, required));
        (end.num_passed, end.num_failed, end.num_ignored)
    }

    #[test]
    fn absence_is_ignored_unless_the_backend_is_required() {
        assert_eq!(conclusion(&ABSENT, ""), (0, 0, 1));
        assert_eq!(conclusion(&ABSENT, "other, probe"), (0, 0, 1));
        assert_eq!(conclusion(&ABSENT, "other,probed"), (0, 1, 0));
        assert_eq!(conclusion(&ABSENT, "probed/metal"), (0, 1, 0));
        let trial = &trials(&ABSENT, &Expectations::NONE, "")[0];
        assert_eq!((trial.kind(), trial.name()), ("probed", "unavailable, because no driver: install one"));
    }

    #[test]
    fn a_required_device_that_is_missing_fails_beside_those_that_are_there() {
        let count = |required| trials(&PRESENT, &Expectations::NONE, required).len();
        assert_eq!(count(""), Case::all().count());
        assert_eq!(count("probed"), count(""));
        assert_eq!(count("probed/cpu"), count(""));
        assert_eq!(count("probed/cuda:0"), count("") + 1);
    }

    #[test]
    fn an_expected_failure_that_passes_fails() {
        assert!(judge(Ok(()), None).is_ok());
        assert!(judge(Err("x".into()), None).is_err());
        assert!(judge(Err("x".into()), Some("because")).is_ok());
        let message = judge(Ok(()), Some("it has no model")).unwrap_err();
        assert!(message.message().unwrap().contains("it has no model"));
    }
}
