//! How numbers are written. What is not known is `n/a`, never zero.

/// Applies a format to a value that may be absent.
pub(super) fn or_na(value: Option<f64>, format: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "n/a".to_owned(), format)
}

/// Four significant digits, so that 0.2134 ms and 526.7 ms both say what they know.
pub fn significant(value: f64) -> String {
    let digits = if value == 0.0 { 1 } else { value.abs().log10().floor() as i32 + 1 };
    format!("{value:.*}", usize::try_from(4 - digits).unwrap_or(0).min(6))
}

/// A duration in milliseconds, without unit.
pub(super) fn ms(value: f64) -> String {
    significant(value)
}

/// A rate.
pub(super) fn rate(value: f64) -> String {
    significant(value)
}

/// A ratio: three decimals near 1, four significant digits where that says too little or too much.
pub(super) fn ratio(value: f64) -> String {
    if (0.1..10.0).contains(&value) { format!("{value:.3}") } else { significant(value) }
}

/// A share as a percentage.
pub(super) fn percent(value: f64) -> String {
    format!("{:.1}%", value * 100.0)
}

/// `1 round`, `3 rounds`.
pub(super) fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_significant_digits() {
        let written = [526.7, 0.213_456, 12_345.6, 0.0, 21.04, 999.96, 1.0e-7].map(significant);
        assert_eq!(written, ["526.7", "0.2135", "12346", "0.000", "21.04", "1000.0", "0.000000"]);
    }
}
