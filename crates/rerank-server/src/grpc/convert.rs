//! Between wire messages and the engine's types.

use rerank_engine::{Direction, Stage, Strategy, Timeline, Truncation};
use rerank_proto::rerank::v1 as wire;

use crate::error::ApiError;
use crate::info::ServerInfo;

/// How pairs are cut. A number that the protocol does not define is refused: its sender asked for something that we
/// cannot know.
pub(super) fn truncation(strategy: i32, direction: i32) -> Result<Truncation, ApiError> {
    let unknown = |field: &str, value: i32| ApiError::Invalid(format!("`{field}` {value} is not defined"));
    let strategy = match wire::Truncation::try_from(strategy) {
        Ok(wire::Truncation::Unspecified | wire::Truncation::LongestFirst) => Strategy::LongestFirst,
        Ok(wire::Truncation::OnlySecond) => Strategy::OnlySecond,
        Ok(wire::Truncation::None) => Strategy::Refuse,
        Err(_) => return Err(unknown("truncation", strategy)),
    };
    let direction = match wire::TruncationDirection::try_from(direction) {
        Ok(wire::TruncationDirection::Unspecified | wire::TruncationDirection::Right) => Direction::Right,
        Ok(wire::TruncationDirection::Left) => Direction::Left,
        Err(_) => return Err(unknown("truncation_direction", direction)),
    };
    Ok(Truncation { strategy, direction })
}

/// The stage clock, as far as it has come.
pub(super) fn timings(timeline: &Timeline) -> wire::Timings {
    let ns = |stage| timeline.stage(stage).as_nanos().try_into().unwrap_or(u64::MAX);
    wire::Timings {
        receive_ns: ns(Stage::Receive),
        parse_ns: ns(Stage::Parse),
        tokenise_ns: ns(Stage::Tokenise),
        queue_ns: ns(Stage::Queue),
        compute_ns: ns(Stage::Compute),
        reply_ns: ns(Stage::Reply),
    }
}

/// What was loaded.
pub(super) fn info(info: ServerInfo) -> wire::InfoResponse {
    let small = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    wire::InfoResponse {
        version: info.version.to_owned(),
        model: info.model.name,
        model_sha256: info.model.sha256,
        backend: info.backend.name,
        device: info.backend.device.to_string(),
        device_name: info.backend.device_name,
        dtype: info.backend.dtype.to_string(),
        threads: small(info.backend.threads),
        workers: small(info.backend.workers),
        layout: match info.backend.layout {
            rerank_core::Layout::Packed => "packed",
            rerank_core::Layout::Padded => "padded",
        }
        .to_owned(),
        max_length: small(info.model.max_length),
        max_batch_tokens: info.batching.max_batch_tokens as u64,
        queue_tokens: info.limits.queue_tokens as u64,
        max_documents: small(info.limits.max_documents),
        payload_limit: info.limits.payload_bytes as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_the_protocol_does_not_define_is_refused() {
        assert_eq!(truncation(0, 0).unwrap(), Truncation::default());
        assert_eq!(truncation(9, 0).unwrap_err().to_string(), "`truncation` 9 is not defined");
        assert_eq!(truncation(0, -1).unwrap_err().to_string(), "`truncation_direction` -1 is not defined");
    }
}
