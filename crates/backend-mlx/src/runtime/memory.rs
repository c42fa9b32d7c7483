//! Whether memory is there, asked before MLX takes it: on the CPU MLX does not look at what `malloc` answers, and writes
//! through a null pointer where the answer was no.

use std::collections::TryReserveError;

use rerank_core::ModelConfig;

/// Asks the same allocator for all of `bytes` at once and gives them back untouched, which costs no pages. What the
/// system grants here it grants to MLX a moment later, unless another thread takes it in between.
pub(super) fn room_for(bytes: usize) -> Result<(), TryReserveError> {
    Vec::<u8>::new().try_reserve_exact(bytes)
}

/// More bytes than a batch of `rows` of `len` tokens keeps at a time: everything that two layers make, in `width` bytes
/// a number.
pub(super) fn of_batch(config: &ModelConfig, rows: usize, len: usize, width: usize) -> usize {
    let token = 16 * config.hidden_size + 6 * config.intermediate_size;
    // Scores, what is masked of them, and softmax, which widens them to f32 and back.
    let scores = config.heads.saturating_mul(len).saturating_mul(5);
    rows.saturating_mul(len).saturating_mul(token.saturating_add(scores)).saturating_mul(2 * width)
}

/// Bytes that loading takes at a time: the weights, and the f32 original of the largest table.
pub(super) fn of_weights(config: &ModelConfig, width: usize) -> usize {
    let hidden = config.hidden_size;
    let tables = (config.vocab_size + 2 * config.max_position_embeddings) * hidden;
    let layer = (4 * hidden + 2 * config.intermediate_size) * hidden;
    (tables + config.layers * layer) * width + (tables + layer) * size_of::<f32>()
}

#[cfg(test)]
mod tests {
    use super::room_for;

    #[test]
    fn what_no_machine_has_is_refused_and_what_it_has_is_given() {
        assert!(room_for(1 << 20).is_ok());
        assert!(room_for(1 << 60).is_err());
        assert!(room_for(usize::MAX).is_err(), "more than a vector can be");
    }
}
