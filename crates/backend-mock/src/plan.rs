//! What goes wrong, and when: a mock that follows no plan answers at once and never fails.

use std::env::VarError;
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use rerank_core::BackendError;

/// The environment variable that holds a running server's plan.
pub const PLAN_VARIABLE: &str = "RERANK_MOCK";

/// Slowness and faults of one loaded backend. "Every n" means its n-th, 2n-th, 3n-th call of `score`; warming up is
/// not counted.
///
/// As text: `key=value` pairs with commas between them. [`Display`](fmt::Display) writes what [`FromStr`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `load_ms`: how long loading takes.
    pub load_delay: Duration,
    /// `delay_us`: how long every batch takes.
    pub batch_delay: Duration,
    /// `token_ns`: how long every token takes, on top.
    pub token_delay: Duration,
    /// `fail_every`: [`BackendError::Inference`].
    pub fail_every: Option<NonZeroU64>,
    /// `panic_every`: a panic.
    pub panic_every: Option<NonZeroU64>,
    /// `nan_every`: the last logit is NaN.
    pub nan_every: Option<NonZeroU64>,
    /// `short_every`: the last logit is missing.
    pub short_every: Option<NonZeroU64>,
    /// `lose_device_every`: [`BackendError::DeviceLost`].
    pub lose_device_every: Option<NonZeroU64>,
    /// `oom_above`: batches of more rows are [`BackendError::OutOfMemory`].
    pub oom_above: Option<NonZeroUsize>,
}

impl Plan {
    /// No delay and no fault; what `..Plan::NONE` completes in a static.
    pub const NONE: Self = Self {
        load_delay: Duration::ZERO,
        batch_delay: Duration::ZERO,
        token_delay: Duration::ZERO,
        fail_every: None,
        panic_every: None,
        nan_every: None,
        short_every: None,
        lose_device_every: None,
        oom_above: None,
    };

    const KEYS: &str = "load_ms, delay_us, token_ns, fail_every, panic_every, nan_every, short_every, \
                        lose_device_every, oom_above";

    /// The plan in [`PLAN_VARIABLE`]; [`Plan::NONE`] where it is not set.
    pub fn from_environment() -> Result<Self, BackendError> {
        match std::env::var(PLAN_VARIABLE) {
            Ok(text) => text.parse(),
            Err(VarError::NotPresent) => Ok(Self::NONE),
            Err(error @ VarError::NotUnicode(_)) => {
                Err(BackendError::unsupported(format!("{PLAN_VARIABLE}: {error}")))
            }
        }
    }

    /// How long a batch of `tokens` tokens takes.
    pub fn delay(&self, tokens: usize) -> Duration {
        self.batch_delay + self.token_delay.saturating_mul(u32::try_from(tokens).unwrap_or(u32::MAX))
    }
}

impl FromStr for Plan {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Self, BackendError> {
        let mut plan = Self::NONE;
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let refuse = |what| BackendError::unsupported(format!("{PLAN_VARIABLE}: `{pair}` {what}"));
            let (key, value) = pair.split_once('=').ok_or_else(|| refuse("is not key=value".to_owned()))?;
            let number: u64 = value.parse().map_err(|_| refuse("is not a whole number".to_owned()))?;
            let every = NonZeroU64::new(number);
            match key {
                "load_ms" => plan.load_delay = Duration::from_millis(number),
                "delay_us" => plan.batch_delay = Duration::from_micros(number),
                "token_ns" => plan.token_delay = Duration::from_nanos(number),
                "fail_every" => plan.fail_every = every,
                "panic_every" => plan.panic_every = every,
                "nan_every" => plan.nan_every = every,
                "short_every" => plan.short_every = every,
                "lose_device_every" => plan.lose_device_every = every,
                "oom_above" => plan.oom_above = NonZeroUsize::new(number as usize),
                _ => return Err(refuse(format!("is unknown; keys are {}", Self::KEYS))),
            }
        }
        Ok(plan)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let every = |every: Option<NonZeroU64>| every.map_or(0, |every| u128::from(every.get()));
        let pairs = [
            ("load_ms", self.load_delay.as_millis()),
            ("delay_us", self.batch_delay.as_micros()),
            ("token_ns", self.token_delay.as_nanos()),
            ("fail_every", every(self.fail_every)),
            ("panic_every", every(self.panic_every)),
            ("nan_every", every(self.nan_every)),
            ("short_every", every(self.short_every)),
            ("lose_device_every", every(self.lose_device_every)),
            ("oom_above", self.oom_above.map_or(0, |rows| rows.get() as u128)),
        ];
        let set: Vec<String> = pairs
            .iter()
            .filter(|(_, value)| *value > 0)
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        f.write_str(&set.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let text = "load_ms=5,delay_us=2000,token_ns=7,fail_every=3,panic_every=4,nan_every=5,short_every=6,\
                    lose_device_every=7,oom_above=8";
        assert_eq!(text.parse::<Plan>().unwrap().to_string(), text);
        assert_eq!("".parse::<Plan>().unwrap(), Plan::NONE);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, remedy) in [
            ("fail_evry=3", "keys are load_ms"),
            ("fail_every", "not key=value"),
            ("fail_every=often", "not a whole number"),
        ] {
            let error = text.parse::<Plan>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(remedy), "{error}");
        }
    }

    #[test]
    fn delay_is_per_batch_and_per_token() {
        let plan: Plan = "delay_us=10,token_ns=100".parse().unwrap();
        assert_eq!(plan.delay(50), Duration::from_micros(15));
    }
}
