//! Which tokens of a pair survive when it is too long: Hugging Face's rules, so that scores are the reference's.

/// What to do with a pair that is longer than the model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truncation {
    /// Which sequence is cut.
    pub strategy: Strategy,
    /// Which end is cut off.
    pub direction: Direction,
}

/// Which sequence is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// `longest_first`: the longer one down to the shorter, then both alike, the odd token to the longer. The default.
    #[default]
    LongestFirst,
    /// `only_second`: the document alone. A query that leaves the document no token is too long.
    OnlySecond,
    /// Neither: a pair over the limit is refused.
    Refuse,
}

/// Which end of a sequence is cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// The end: the first tokens are kept. The default.
    #[default]
    Right,
    /// The beginning: the last tokens are kept.
    Left,
}

impl Truncation {
    /// How many tokens of the query and of the document to keep so that both fit into `room`; `None` if the strategy
    /// cannot make them fit.
    pub(super) fn keep(self, query: usize, document: usize, room: usize) -> Option<(usize, usize)> {
        if query + document <= room {
            return Some((query, document));
        }
        match self.strategy {
            Strategy::LongestFirst => {
                let shorter = query.min(document).min(room / 2);
                let longer = room - shorter;
                Some(if query > document { (longer, shorter) } else { (shorter, longer) })
            }
            Strategy::OnlySecond => (query < room).then(|| (query, room - query)),
            Strategy::Refuse => None,
        }
    }
}

impl Direction {
    /// The `keep` tokens that survive of `ids`.
    pub(super) fn cut(self, ids: &[u32], keep: usize) -> &[u32] {
        match self {
            Self::Right => &ids[..keep],
            Self::Left => &ids[ids.len() - keep..],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert_eq, proptest};
    use tokenizers::{Encoding, TruncationParams, TruncationStrategy, utils::truncation::truncate_encodings};

    use super::{Direction, Strategy, Truncation};

    fn encoding(len: usize) -> Encoding {
        Encoding::from_tokens(
            (0..len).map(|i| tokenizers::Token::new(i as u32, String::new(), (0, 0))).collect(),
            0,
        )
    }

    proptest! {
        /// The oracle is the `tokenizers` crate's own truncation.
        #[test]
        fn keeps_what_hugging_face_keeps(query in 0usize..80, document in 0usize..80, room in 2usize..90) {
            for (ours, theirs) in [
                (Strategy::LongestFirst, TruncationStrategy::LongestFirst),
                (Strategy::OnlySecond, TruncationStrategy::OnlySecond),
            ] {
                let params = TruncationParams { max_length: room, strategy: theirs, ..Default::default() };
                let expected = truncate_encodings(encoding(query), Some(encoding(document)), &params)
                    .ok()
                    .map(|(query, document)| (query.len(), document.expect("a pair stays a pair").len()));
                let truncation = Truncation { strategy: ours, direction: Direction::Right };
                prop_assert_eq!(truncation.keep(query, document, room), expected);
            }
        }
    }

    #[test]
    fn directions_keep_opposite_ends() {
        assert_eq!(Direction::Right.cut(&[1, 2, 3], 2), [1, 2]);
        assert_eq!(Direction::Left.cut(&[1, 2, 3], 2), [2, 3]);
        assert_eq!(Direction::Left.cut(&[1], 0), [0u32; 0]);
    }

    #[test]
    fn refusing_lets_through_what_fits_and_nothing_else() {
        let refuse = Truncation { strategy: Strategy::Refuse, direction: Direction::Right };
        assert_eq!(refuse.keep(3, 4, 7), Some((3, 4)));
        assert_eq!(refuse.keep(3, 5, 7), None);
    }
}
