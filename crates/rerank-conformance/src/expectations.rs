//! What a backend is known not to do, with reasons.

use rerank_core::DType;

use crate::Case;
use crate::tolerance;

/// A backend's exceptions. Most have none.
#[derive(Debug)]
pub struct Expectations {
    /// Cases that fail, and fail the run on the day they pass.
    pub failures: &'static [ExpectedFailure],
    /// Dtypes whose logits may be further from the reference than is usual.
    pub tolerances: &'static [WiderTolerance],
}

impl Expectations {
    /// No exception.
    pub const NONE: Self = Self { failures: &[], tolerances: &[] };

    /// Why `case` is expected to fail in `dtype`, if it is.
    pub(crate) fn failure(&self, case: Case, dtype: DType) -> Option<&'static str> {
        self.failures
            .iter()
            .find(|failure| {
                failure.cases.contains(&case) && failure.dtypes.is_none_or(|dtypes| dtypes.contains(&dtype))
            })
            .map(|failure| failure.reason)
    }

    /// How far a logit may be from the reference in `dtype`.
    pub(crate) fn tolerance(&self, dtype: DType) -> f32 {
        let usual = tolerance::of(dtype);
        let wider = self.tolerances.iter().find(|wider| wider.dtype == dtype);
        wider.map_or(usual, |wider| wider.logit.max(usual))
    }
}

/// Cases that a backend fails for a known reason.
#[derive(Debug)]
pub struct ExpectedFailure {
    cases: &'static [Case],
    dtypes: Option<&'static [DType]>,
    reason: &'static str,
}

impl ExpectedFailure {
    /// These cases, on every device and in every dtype.
    pub const fn new(cases: &'static [Case], reason: &'static str) -> Self {
        Self { cases, dtypes: None, reason }
    }

    /// The same in these dtypes only.
    #[must_use]
    pub const fn in_dtypes(self, dtypes: &'static [DType]) -> Self {
        Self { dtypes: Some(dtypes), ..self }
    }
}

/// A dtype in which a backend's logits are further from the reference than [the usual](crate::Expectations).
#[derive(Debug)]
pub struct WiderTolerance {
    /// The dtype.
    pub dtype: DType,
    /// Largest absolute difference of a logit.
    pub logit: f32,
    /// Why, for whoever wants to narrow it again.
    pub reason: &'static str,
}
