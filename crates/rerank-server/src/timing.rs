//! The stage clock as a `Server-Timing` value, which browsers, proxies and our own load generator can read.

use std::fmt::Write;

use rerank_engine::{Stage, Timeline};

/// The header's and the trailing metadata's name.
pub const SERVER_TIMING: &str = "server-timing";

/// `receive;dur=0.012000, ..., total;dur=1.250000`: milliseconds with the nanoseconds kept, because stages of a small
/// request are so short that rounding each would break their sum.
pub fn server_timing(timeline: &Timeline) -> String {
    let stages = Stage::ALL.into_iter().map(|stage| (stage.name(), timeline.stage(stage)));
    let mut value = String::with_capacity(192);
    for (name, duration) in stages.chain([("total", timeline.total())]) {
        let (ms, ns) = (duration.as_nanos() / 1_000_000, duration.as_nanos() % 1_000_000);
        let comma = if value.is_empty() { "" } else { ", " };
        write!(value, "{comma}{name};dur={ms}.{ns:06}").expect("writing to a string cannot fail");
    }
    value
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn stages_and_their_sum_to_the_nanosecond() {
        let start = Instant::now();
        let mut timeline = Timeline::start_at(start);
        timeline.end_at(Stage::Receive, start + Duration::from_nanos(1_500));
        timeline.end_at(Stage::Reply, start + Duration::from_nanos(12_000_001));
        insta::assert_snapshot!(
            server_timing(&timeline),
            @"receive;dur=0.001500, parse;dur=0.000000, tokenise;dur=0.000000, queue;dur=0.000000, compute;dur=0.000000, reply;dur=11.998501, total;dur=12.000001"
        );
    }
}
