//! From logits to scores and ranks.

/// The score of a logit: `1 / (1 + e^-x)`, in f64 because f32 saturates to exactly 1.0 at a logit of 17 and ties
/// documents that differ.
pub fn sigmoid(logit: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(logit)).exp())
}

/// Indices of `logits` from best to worst: by logit, never by score; ties keep input order. NaN ranks last.
pub fn rank(logits: &[f32]) -> Vec<usize> {
    let key = |index: usize| if logits[index].is_nan() { f32::NEG_INFINITY } else { logits[index] };
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| key(b).partial_cmp(&key(a)).expect("NaN was replaced"));
    order
}

#[cfg(test)]
mod tests {
    use super::{rank, sigmoid};

    #[test]
    fn scores_keep_apart_what_f32_would_tie() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert!(sigmoid(20.0) < sigmoid(25.0));
        assert!(sigmoid(-100.0) > 0.0 && sigmoid(-1000.0) == 0.0);
    }

    #[test]
    fn ranks_by_logit_with_ties_by_index() {
        assert_eq!(rank(&[0.5, 2.0, -1.0, 2.0]), [1, 3, 0, 2]);
        assert_eq!(rank(&[f32::NAN, -9.0, f32::INFINITY]), [2, 1, 0]);
        assert_eq!(rank(&[-0.0, 0.0]), [0, 1]);
        assert!(rank(&[]).is_empty());
    }
}
