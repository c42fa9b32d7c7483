//! Counter-based random numbers: element `i` of a stream needs no element before it, so every language, thread and
//! order of generation agrees on it bit for bit.

/// 2^64 / golden ratio: the increment of `SplitMix64` (Steele, Lea, Flood 2014).
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// FNV-1a, 64 bits: turns a tensor's name into a part of its key.
pub fn fnv1a64(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The random numbers that belong to one seed and one name.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    key: u64,
}

impl Stream {
    /// The stream of `name` under `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        Self { key: finalize((seed ^ fnv1a64(name)).wrapping_add(GAMMA)) }
    }

    /// Element `index`, all 64 bits.
    #[inline]
    pub fn bits(self, index: u64) -> u64 {
        finalize(self.key.wrapping_add(index.wrapping_add(1).wrapping_mul(GAMMA)))
    }

    /// Element `index` as a uniform value in [-1, 1): the top 24 bits, which an f32 holds exactly.
    #[inline]
    pub fn uniform(self, index: u64) -> f32 {
        const HALF: i32 = 1 << 23;
        ((self.bits(index) >> 40) as i32 - HALF) as f32 / HALF as f32
    }

    /// Element `index` as an integer in `0..bound`, by multiplication instead of remainder (Lemire 2016); `bound`
    /// must not be 0.
    #[inline]
    pub fn below(self, index: u64, bound: u32) -> u32 {
        (((self.bits(index) >> 32) * u64::from(bound)) >> 32) as u32
    }
}

#[inline]
fn finalize(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_matches_its_published_vectors() {
        assert_eq!(fnv1a64(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a64("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn stream_with_key_zero_is_splitmix64_seeded_with_zero() {
        let stream = Stream { key: 0 };
        assert_eq!(stream.bits(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(stream.bits(1), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn uniform_covers_the_interval_evenly() {
        let stream = Stream::new(1, "x");
        let values: Vec<f32> = (0..65_536).map(|i| stream.uniform(i)).collect();
        assert!(values.iter().all(|v| (-1.0..1.0).contains(v)));
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / 65_536.0;
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / 65_536.0;
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((variance - 1.0 / 3.0).abs() < 0.01, "variance {variance}");
    }

    #[test]
    fn below_stays_below() {
        let stream = Stream::new(1, "x");
        assert!((0..10_000).all(|i| stream.below(i, 7) < 7));
        assert!((0..7).all(|n| (0..1000).any(|i| stream.below(i, 7) == n)));
    }
}
