//! The batching policy keeps its promises for every sequence of requests: no row lost or doubled, the budget kept, no
//! request starved.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use rerank_core::{BatchShape, Layout, ShapePolicy};
use rerank_engine::{BatchPolicy, Batcher, Pick};

fn policies() -> impl Strategy<Value = BatchPolicy> {
    let shapes = prop_oneof![Just(ShapePolicy::Dynamic), Just(ShapePolicy::Buckets(vec![16, 64, 128])),];
    let layout = prop_oneof![Just(Layout::Packed), Just(Layout::Padded)];
    (128usize..600, prop_oneof![Just(usize::MAX), 1usize..20], 1usize..5, layout, shapes).prop_map(
        |(max_tokens, max_rows, look_ahead, layout, shapes)| BatchPolicy {
            max_tokens,
            max_rows,
            look_ahead,
            layout,
            shapes,
        },
    )
}

/// Requests as lists of row lengths, and after each how many batches are taken before the next arrives.
fn traffic() -> impl Strategy<Value = Vec<(Vec<usize>, usize)>> {
    vec((vec(1usize..=128, 1..40), 0usize..3), 1..25)
}

fn shape(picks: &[Pick<usize>], requests: &[Vec<usize>]) -> BatchShape {
    let lens = picks.iter().map(|pick| requests[pick.request][pick.row]);
    BatchShape { rows: picks.len(), max_len: lens.clone().max().unwrap_or(0), tokens: lens.sum() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_row_is_scored_once_within_budget_and_the_oldest_is_always_served(
        policy in policies(),
        traffic in traffic(),
    ) {
        let requests: Vec<Vec<usize>> = traffic.iter().map(|(lens, _)| lens.clone()).collect();
        let mut batcher = Batcher::new(policy.clone());
        let mut unscored: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        let take = |batcher: &mut Batcher<usize>, unscored: &mut BTreeMap<usize, BTreeSet<usize>>| {
            let oldest = batcher.oldest().copied();
            let picks = batcher.next_batch();
            prop_assert_eq!(picks.is_empty(), oldest.is_none());
            if let Some(oldest) = oldest {
                prop_assert!(picks.iter().any(|pick| pick.request == oldest), "the oldest request was passed over");
            }
            let shape = shape(&picks, &requests);
            prop_assert!(shape.rows <= policy.max_rows);
            prop_assert!(policy.cost(shape) <= policy.max_tokens || shape.rows == 1, "{shape:?} over budget");
            for pick in &picks {
                let rows = unscored.get_mut(&pick.request).expect("a pick belongs to a waiting request");
                prop_assert!(rows.remove(&pick.row), "row {} of {} came twice", pick.row, pick.request);
                if rows.is_empty() {
                    unscored.remove(&pick.request);
                }
            }
            prop_assert_eq!(batcher.rows(), unscored.values().map(BTreeSet::len).sum::<usize>());
            let tokens: usize =
                unscored.iter().flat_map(|(&id, rows)| rows.iter().map(move |&row| (id, row))).map(|(id, row)| requests[id][row]).sum();
            prop_assert_eq!(batcher.tokens(), tokens);
            Ok(())
        };
        for (id, (lens, batches)) in traffic.iter().enumerate() {
            batcher.push(id, lens.iter().copied());
            unscored.insert(id, (0..lens.len()).collect());
            for _ in 0..*batches {
                take(&mut batcher, &mut unscored)?;
            }
        }
        // A request is served by every batch while it is the oldest, so as many batches as there are rows always do.
        let bound = batcher.rows();
        for _ in 0..bound {
            if batcher.rows() > 0 {
                take(&mut batcher, &mut unscored)?;
            }
        }
        prop_assert!(unscored.is_empty(), "rows were left behind: {unscored:?}");
    }

    #[test]
    fn rejected_requests_leave_nothing_behind(policy in policies(), traffic in traffic(), odd in any::<bool>()) {
        let mut batcher = Batcher::new(policy);
        for (id, (lens, _)) in traffic.iter().enumerate() {
            batcher.push(id, lens.iter().copied());
        }
        let rejected = batcher.reject(|id| (id % 2 == 1) == odd);
        prop_assert!(rejected.iter().all(|id| (id % 2 == 1) != odd));
        let kept: usize =
            traffic.iter().enumerate().filter(|(id, _)| (id % 2 == 1) == odd).map(|(_, (lens, _))| lens.len()).sum();
        prop_assert_eq!(batcher.rows(), kept);
        let mut scored = 0;
        while batcher.rows() > 0 {
            let picks = batcher.next_batch();
            prop_assert!(picks.iter().all(|pick| (pick.request % 2 == 1) == odd));
            scored += picks.len();
        }
        prop_assert_eq!(scored, kept);
    }
}

#[test]
fn packed_batches_follow_arrival() {
    let policy = BatchPolicy {
        max_tokens: 100,
        max_rows: usize::MAX,
        look_ahead: 4,
        layout: Layout::Packed,
        shapes: ShapePolicy::Dynamic,
    };
    let mut batcher = Batcher::new(policy);
    batcher.push("first", [40, 30, 50]);
    batcher.push("second", [20]);
    let order = |picks: Vec<Pick<&'static str>>| -> Vec<(&str, usize)> {
        picks.into_iter().map(|pick| (pick.request, pick.row)).collect()
    };
    assert_eq!(order(batcher.next_batch()), [("first", 0), ("first", 1)]);
    assert_eq!(order(batcher.next_batch()), [("first", 2), ("second", 0)]);
    assert_eq!(order(batcher.next_batch()), []);
}

#[test]
fn padded_batches_gather_rows_of_like_length_around_the_oldest() {
    let policy = BatchPolicy {
        max_tokens: 256,
        max_rows: usize::MAX,
        look_ahead: 4,
        layout: Layout::Padded,
        shapes: ShapePolicy::Dynamic,
    };
    let mut batcher = Batcher::new(policy);
    batcher.push("old", [10, 120]);
    batcher.push("new", [12, 118, 11, 128]);
    let batch: BTreeSet<(&str, usize)> =
        batcher.next_batch().into_iter().map(|pick| (pick.request, pick.row)).collect();
    assert_eq!(batch, BTreeSet::from([("old", 1), ("new", 1)]), "120 and 118 tokens waste least");
    let batch: BTreeSet<(&str, usize)> =
        batcher.next_batch().into_iter().map(|pick| (pick.request, pick.row)).collect();
    assert_eq!(batch, BTreeSet::from([("old", 0), ("new", 0), ("new", 2)]));
}
