//! Made-up texts whose length is exact in tokens of the served model. Words are ordinary ones; only those that the
//! model's tokenizer keeps whole are used, and every pair is counted again by the server before it is sent.

use anyhow::{Context as _, Result, bail};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::RequestText;
use crate::info::HttpSide;

/// Frequent words of the committed workload.
const WORDS: &str = include_str!("words.txt");
/// Words of a query, unless the pairs are too short for so many.
const QUERY_WORDS: u64 = 8;

/// How long pairs are, in tokens with special tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Lengths {
    Fixed(u64),
    LogNormal { mean: f64, sigma: f64 },
}

impl Lengths {
    fn draw(self, random: &mut StdRng) -> u64 {
        match self {
            Self::Fixed(tokens) => tokens,
            Self::LogNormal { mean, sigma } => {
                // The mean of a lognormal is exp(mu + sigma²/2).
                let mu = mean.ln() - sigma * sigma / 2.0;
                (mu + sigma * standard_normal(random)).exp().round() as u64
            }
        }
    }
}

/// Box and Muller's transform.
fn standard_normal(random: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// What the model at hand makes of the words.
struct Calibration {
    /// Words that cost exactly one token.
    words: Vec<&'static str>,
    /// Tokens that a pair has beside its words.
    special: u64,
    max_length: u64,
}

/// `requests` of `rows` pairs each.
pub(super) async fn make(
    http: &HttpSide,
    lengths: Lengths,
    rows: usize,
    requests: usize,
    seed: u64,
) -> Result<Vec<RequestText>> {
    let calibration = calibrate(http).await?;
    if let Lengths::Fixed(tokens) = lengths {
        let shortest = calibration.special + 2;
        if tokens < shortest || tokens > calibration.max_length {
            bail!(
                "fixed:{tokens} is not between {shortest} and {}, the model's limits",
                calibration.max_length
            );
        }
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut pool = Vec::with_capacity(requests);
    for _ in 0..requests {
        let (request, wanted) = calibration.request(lengths, rows, &mut random);
        let counted = http.token_lengths(&request.query, &request.documents).await?;
        if counted != wanted {
            bail!(
                "the tokenizer of this model joins words across blanks, so texts of a given length cannot be made up; \
                 use a workload of real text"
            );
        }
        pool.push(request);
    }
    Ok(pool)
}

async fn calibrate(http: &HttpSide) -> Result<Calibration> {
    let candidates: Vec<&'static str> = WORDS.split_whitespace().collect();
    let anchor = candidates[0];
    // The first document is the anchor alone, the others add one word to it: what they cost more is the word's cost.
    let mut documents = vec![anchor.to_owned()];
    documents.extend(candidates.iter().map(|word| format!("{anchor} {word}")));
    let counted = http.token_lengths(anchor, &documents).await.context("calibrating the words")?;
    let words: Vec<_> = candidates
        .iter()
        .zip(&counted[1..])
        .filter(|(_, tokens)| **tokens == counted[0] + 1)
        .map(|(word, _)| *word)
        .collect();
    // Fewer would repeat themselves so often that a tokenizer's cache flatters the result.
    if words.len() < 100 {
        bail!("the tokenizer of this model keeps only {} of {} words whole", words.len(), candidates.len());
    }
    let [one, two] = [words[0], words[1]];
    let both = http.token_lengths(one, &[two.to_owned()]).await?[0];
    let special = both.checked_sub(2).context("a pair of two words has fewer than two tokens")?;
    let max_length = http.identity().await?.max_length;
    Ok(Calibration { words, special, max_length })
}

impl Calibration {
    /// One request and the lengths that its pairs must have.
    fn request(&self, lengths: Lengths, rows: usize, random: &mut StdRng) -> (RequestText, Vec<u64>) {
        let drawn: Vec<u64> = (0..rows).map(|_| lengths.draw(random)).collect();
        let shortest = match lengths {
            Lengths::Fixed(tokens) => tokens,
            Lengths::LogNormal { mean, .. } => (mean / 4.0) as u64,
        };
        // Half of the shortest pair at most, so that every document has words of its own.
        let query = (shortest.saturating_sub(self.special) / 2).clamp(1, QUERY_WORDS);
        let wanted: Vec<u64> =
            drawn.into_iter().map(|tokens| tokens.clamp(self.special + query + 1, self.max_length)).collect();
        let mut text = |words: u64| {
            let words: Vec<&str> = (0..words)
                .map(|_| *self.words.choose(random).expect("there are at least 100 words"))
                .collect();
            words.join(" ")
        };
        let documents = wanted.iter().map(|tokens| text(tokens - self.special - query)).collect();
        (RequestText { query: text(query), documents }, wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_many_and_distinct() {
        let mut words: Vec<_> = WORDS.split_whitespace().collect();
        let all = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!((all, words.len()), (420, 420));
    }

    #[test]
    fn lognormal_lengths_have_the_mean_asked_for() {
        let mut random = StdRng::seed_from_u64(3);
        let lengths = Lengths::LogNormal { mean: 90.0, sigma: 0.6 };
        let drawn: Vec<f64> = (0..20_000).map(|_| lengths.draw(&mut random) as f64).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        assert!((mean - 90.0).abs() < 1.5, "{mean}");
    }

    #[test]
    fn requests_have_words_for_exactly_the_lengths() {
        let words = WORDS.split_whitespace().collect();
        let calibration = Calibration { words, special: 3, max_length: 128 };
        let mut random = StdRng::seed_from_u64(3);
        for lengths in [Lengths::Fixed(5), Lengths::Fixed(128), Lengths::LogNormal { mean: 90.0, sigma: 0.8 }]
        {
            let (request, wanted) = calibration.request(lengths, 32, &mut random);
            let query = request.query.split(' ').count() as u64;
            for (document, wanted) in request.documents.iter().zip(wanted) {
                assert_eq!(3 + query + document.split(' ').count() as u64, wanted);
                assert!(wanted <= 128);
            }
        }
    }
}
