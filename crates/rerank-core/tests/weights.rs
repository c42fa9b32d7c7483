//! Checkpoints of every form lead to the same tensors, and damaged ones are refused by name.

use std::collections::BTreeMap;

use half::{bf16, f16};
use rerank_core::{BackendError, DType, Weights};
use safetensors::tensor::{Dtype, TensorView, serialize};

const NAME: &str = "bert.encoder.layer.0.attention.self.query.weight";
const CANONICAL: &str = "encoder.layers.0.attention.query.weight";
const VALUES: [f32; 4] = [1.0, -2.5, 0.125, 3.0];

fn file(tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let views: BTreeMap<&str, TensorView<'_>> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            (*name, TensorView::new(*dtype, shape.clone(), bytes).expect("the bytes fill the shape"))
        })
        .collect();
    serialize(views, None).expect("the tensors make a file")
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn one(dtype: Dtype, bytes: Vec<u8>) -> Weights {
    Weights::from_bytes(file(&[(NAME, dtype, vec![2, 2], bytes)])).expect("the file is complete")
}

#[test]
fn f32_f16_and_bf16_widen_to_the_same_values() {
    let half: Vec<u8> = VALUES.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
    let brain: Vec<u8> = VALUES.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
    for weights in [one(Dtype::F32, f32_bytes(&VALUES)), one(Dtype::F16, half), one(Dtype::BF16, brain)] {
        assert_eq!(weights.f32(CANONICAL, &[2, 2]).unwrap(), VALUES);
    }
}

#[test]
fn what_is_wrong_with_a_tensor_is_said_with_its_name() {
    let weights = one(Dtype::F32, f32_bytes(&VALUES));
    let cases = [
        (weights.f32("head.out.bias", &[1]), "`head.out.bias` is missing"),
        (weights.f32(CANONICAL, &[4]), "has shape [2, 2], config.json asks for [4]"),
        (
            one(Dtype::F32, f32_bytes(&[1.0, f32::NAN, 0.0, 0.0])).f32(CANONICAL, &[2, 2]),
            "holds NaN at element 1",
        ),
        (one(Dtype::I32, f32_bytes(&VALUES)).f32(CANONICAL, &[2, 2]), "is I32"),
    ];
    for (result, wanted) in cases {
        let error = result.unwrap_err();
        assert!(matches!(error, BackendError::Load { .. }));
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[test]
fn files_that_are_no_checkpoint_are_refused() {
    let whole = file(&[(NAME, Dtype::F32, vec![2, 2], f32_bytes(&VALUES))]);
    for bytes in [
        whole[..whole.len() - 1].to_vec(),
        whole[..6].to_vec(),
        Vec::new(),
        b"<html>not found</html>".to_vec(),
    ] {
        let error = Weights::from_bytes(bytes).unwrap_err();
        assert!(error.to_string().contains("not a complete safetensors file"), "{error}");
    }
}

#[test]
fn a_folder_with_one_file_or_a_sharded_index_opens_alike() {
    let (q, out) = (f32_bytes(&VALUES), f32_bytes(&[0.5]));
    let both = file(&[
        (NAME, Dtype::F32, vec![2, 2], q.clone()),
        ("classifier.bias", Dtype::F32, vec![1], out.clone()),
    ]);
    let single = tempfile::tempdir().unwrap();
    std::fs::write(single.path().join("model.safetensors"), &both).unwrap();

    let sharded = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(sharded.path().join(name), bytes).unwrap();
    write("model-00001-of-00002.safetensors", &file(&[(NAME, Dtype::F32, vec![2, 2], q)]));
    write("model-00002-of-00002.safetensors", &file(&[("classifier.bias", Dtype::F32, vec![1], out)]));
    let index = format!(
        r#"{{"metadata": {{}}, "weight_map": {{"{NAME}": "model-00001-of-00002.safetensors",
            "classifier.bias": "model-00002-of-00002.safetensors"}}}}"#
    );
    write("model.safetensors.index.json", index.as_bytes());

    for dir in [single.path(), sharded.path()] {
        let weights = Weights::open(dir).unwrap();
        assert_eq!(weights.f32(CANONICAL, &[2, 2]).unwrap(), VALUES);
        assert_eq!(weights.f32("head.out.bias", &[1]).unwrap(), [0.5]);
    }
    let one = Weights::open(single.path()).unwrap();
    assert_eq!(one.bytes(), both.len() as u64);
    assert_eq!(one.sha256(), Weights::from_bytes(both).unwrap().sha256());
    assert_eq!(one.dtype(), None, "this checkpoint has no token embeddings");
}

#[test]
fn an_index_cannot_point_outside_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let index = r#"{"weight_map": {"a": "../../etc/passwd"}}"#;
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    assert!(Weights::open(dir.path()).unwrap_err().to_string().contains("not a plain file name"));
    let empty = tempfile::tempdir().unwrap();
    assert!(Weights::open(empty.path()).unwrap_err().to_string().contains("holds neither"));
}

#[test]
fn the_stored_dtype_is_reported() {
    let bytes: Vec<u8> = VALUES.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
    let weights =
        Weights::from_bytes(file(&[("embeddings.word_embeddings.weight", Dtype::F16, vec![2, 2], bytes)]))
            .unwrap();
    assert_eq!(weights.dtype(), Some(DType::F16));
}
