//! From the names that Hugging Face checkpoints use to ours.

/// The canonical name, or `None` for what no backend needs: position id buffers, an unused pooler, other heads.
///
/// `separate_head`: the checkpoint has a classification head with its own dense layer (RoBERTa). Such checkpoints may
/// also carry a pooler that their architecture never computes.
pub(super) fn canonical(name: &str, separate_head: bool) -> Option<String> {
    let name =
        ["bert.", "roberta.", "model."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let (module, kind) = name.rsplit_once('.')?;
    // Checkpoints converted from TensorFlow call a layer norm's tensors gamma and beta.
    let kind = match kind {
        "weight" | "gamma" => "weight",
        "bias" | "beta" => "bias",
        _ => return None,
    };
    let module = match module {
        "embeddings.word_embeddings" => "embeddings.word".to_owned(),
        "embeddings.position_embeddings" => "embeddings.position".to_owned(),
        "embeddings.token_type_embeddings" => "embeddings.token_type".to_owned(),
        "embeddings.LayerNorm" => "embeddings.norm".to_owned(),
        "pooler.dense" if !separate_head => "head.dense".to_owned(),
        "classifier.dense" => "head.dense".to_owned(),
        "classifier" | "classifier.out_proj" => "head.out".to_owned(),
        other => layer_module(other)?,
    };
    Some(format!("{module}.{kind}"))
}

fn layer_module(module: &str) -> Option<String> {
    let (layer, rest) = module.strip_prefix("encoder.layer.")?.split_once('.')?;
    layer.parse::<usize>().ok()?;
    let ours = match rest {
        "attention.self.query" => "attention.query",
        "attention.self.key" => "attention.key",
        "attention.self.value" => "attention.value",
        "attention.output.dense" => "attention.output",
        "attention.output.LayerNorm" => "attention.norm",
        "intermediate.dense" => "mlp.up",
        "output.dense" => "mlp.down",
        "output.LayerNorm" => "mlp.norm",
        _ => return None,
    };
    Some(format!("encoder.layers.{layer}.{ours}"))
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn every_prefix_leads_to_the_same_name() {
        for prefix in ["", "bert.", "roberta.", "model."] {
            let name = canonical(&format!("{prefix}encoder.layer.11.attention.self.query.weight"), false);
            assert_eq!(name.unwrap(), "encoder.layers.11.attention.query.weight");
        }
        let names = [
            ("bert.embeddings.LayerNorm.gamma", "embeddings.norm.weight"),
            ("bert.pooler.dense.bias", "head.dense.bias"),
            ("classifier.weight", "head.out.weight"),
            ("bert.encoder.layer.0.output.dense.weight", "encoder.layers.0.mlp.down.weight"),
            ("encoder.layer.3.attention.output.LayerNorm.beta", "encoder.layers.3.attention.norm.bias"),
        ];
        for (theirs, ours) in names {
            assert_eq!(canonical(theirs, false).as_deref(), Some(ours));
        }
    }

    #[test]
    fn a_separate_head_displaces_the_pooler() {
        assert_eq!(canonical("classifier.dense.weight", true).as_deref(), Some("head.dense.weight"));
        assert_eq!(canonical("classifier.out_proj.bias", true).as_deref(), Some("head.out.bias"));
        assert_eq!(canonical("roberta.pooler.dense.weight", true), None);
    }

    #[test]
    fn what_no_backend_needs_is_left_out() {
        for name in [
            "bert.embeddings.position_ids",
            "cls.predictions.bias",
            "encoder.layer.x.output.dense.bias",
            "lone",
        ] {
            assert_eq!(canonical(name, false), None, "{name}");
        }
    }
}
