//! The generator's output is a promise: golden logits were computed by another program from the same bytes.

use std::fmt::Write;
use std::time::Instant;

use rerank_model_synth::{PRESETS, Precision, Synth};
use sha2::{Digest, Sha256};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        hex
    })
}

#[test]
fn presets_are_what_numpy_generates() {
    let mut found: Vec<String> = PRESETS
        .iter()
        .map(|name| {
            let start = Instant::now();
            let weights = Synth::preset(name).unwrap().generate().unwrap().weights;
            println!("{name}: {} bytes in {:?}", weights.len(), start.elapsed());
            format!("{}  {name}", sha256(&weights))
        })
        .collect();
    found.sort_by(|a, b| a.split_whitespace().last().cmp(&b.split_whitespace().last()));
    assert_eq!(found.join("\n"), include_str!("../checksums.txt").trim_end());
}

#[test]
fn half_precision_is_the_rounded_single_precision() {
    let single = Synth::preset("xlm-roberta-small").unwrap();
    let half = Synth { precision: Precision::F16, ..single.clone() };
    let name = "roberta.encoder.layer.1.output.dense.weight";
    let single = single.generate().unwrap().weights;
    let half = half.generate().unwrap().weights;
    let single =
        safetensors::SafeTensors::deserialize(&single).unwrap().tensor(name).unwrap().data().to_vec();
    let half = safetensors::SafeTensors::deserialize(&half).unwrap().tensor(name).unwrap().data().to_vec();
    let rounded: Vec<u8> = single
        .as_chunks::<4>()
        .0
        .iter()
        .flat_map(|&word| half::f16::from_f32(f32::from_le_bytes(word)).to_le_bytes())
        .collect();
    assert_eq!(half, rounded);
}

#[test]
fn another_seed_makes_other_weights() {
    let one = Synth::preset("roberta-small").unwrap();
    let two = Synth { seed: 2, ..one.clone() };
    assert_ne!(one.generate().unwrap().weights, two.generate().unwrap().weights);
}

#[test]
fn what_cannot_be_generated_is_refused_by_name() {
    let error = Synth::preset("minilm-l7").unwrap_err().to_string();
    assert_eq!(
        error,
        "no synthetic preset `minilm-l7`; there are minilm-l6, minilm-l2, roberta-small, xlm-roberta-small"
    );
    let odd = Synth { heads: 7, ..Synth::preset("minilm-l2").unwrap() };
    let error = odd.generate().unwrap_err().to_string();
    assert_eq!(error, "synthetic checkpoint cannot have 7 heads in a width of 384, which they do not divide");
}
