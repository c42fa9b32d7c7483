//! When logits count as equal to reference logits.

/// Largest accepted difference of a logit from PyTorch's f32, by the dtype that computed it: the tolerances of the
/// conformance suite, which says how they were found. An unknown dtype is held to the strictest.
pub fn logit_tolerance(dtype: &str) -> f64 {
    match dtype {
        "f16" => 6.4e-2,
        "bf16" => 7.7e-1,
        "int8" => 1.5,
        _ => 1e-4,
    }
}

/// Largest absolute difference; infinite when a value is not a number or one is missing.
pub fn max_abs_diff(logits: &[f64], reference: &[f64]) -> f64 {
    if logits.len() != reference.len() {
        return f64::INFINITY;
    }
    let differences = logits.iter().zip(reference).map(|(logit, expected)| (logit - expected).abs());
    // `f64::max` would drop a NaN, which is the worst of answers.
    differences
        .fold(0.0, |max, difference| if difference.is_nan() { f64::INFINITY } else { max.max(difference) })
}

/// Whether no two documents that the reference holds apart by more than twice the tolerance have changed places.
pub fn ranks_alike(logits: &[f64], reference: &[f64], tolerance: f64) -> bool {
    let n = reference.len();
    logits.len() == n
        && (0..n).all(|a| {
            (0..n).all(|b| reference[a] - reference[b] <= 2.0 * tolerance || logits[a] - logits[b] > 0.0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_further_apart_than_the_tolerance_must_keep_their_order() {
        assert!(
            ranks_alike(&[2.0, 1.0, 0.99], &[2.0, 1.0, 1.001], 1e-2),
            "a tie within the tolerance may fall either way"
        );
        assert!(!ranks_alike(&[1.0, 2.0], &[2.0, 1.0], 1e-2));
        assert!(!ranks_alike(&[f64::NAN, 1.0], &[2.0, 1.0], 1e-2));
    }

    #[test]
    fn what_is_not_a_number_is_infinitely_wrong() {
        assert!((max_abs_diff(&[1.0, 2.5], &[1.0, 2.0]) - 0.5).abs() < 1e-12);
        assert_eq!(max_abs_diff(&[1.0, f64::NAN], &[1.0, 2.0]), f64::INFINITY);
        assert_eq!(max_abs_diff(&[1.0], &[1.0, 2.0]), f64::INFINITY);
    }
}
