//! Another server as the reference: the same weights in f32, on whole workloads, for which nobody commits logits.

use anyhow::{Context as _, Result, ensure};
use rerank_report::{ComparedQuery, Identity};

use super::{no_reference, same_tokens};
use crate::{
    client::{Client, HttpClient},
    info::HttpSide,
    workload::Pool,
};

/// A server that may serve as the reference.
pub(super) struct Reference {
    client: Client,
    identity: Identity,
}

impl Reference {
    /// Asks the server at `url`, its HTTP side, who it is; refuses one that is no reference for `compared`.
    pub(super) async fn connect(url: &str, compared: &Identity) -> Result<Self> {
        let url = url.trim_end_matches('/');
        let identity = HttpSide::new(url).identity().await.with_context(|| format!("--against {url}"))?;
        is_reference(&identity, compared).with_context(|| format!("--against {url}"))?;
        Ok(Self { client: Client::Http(HttpClient::new(url)?), identity })
    }

    /// Sends every request of the pool to both servers.
    pub(super) async fn compare(&self, client: &Client, pool: &Pool) -> Result<Vec<ComparedQuery>> {
        let mut queries = Vec::new();
        for request in &pool.requests {
            let (reference, expected) = self.client.logits(&request.query, &request.documents).await?;
            let (logits, tokens) = client.logits(&request.query, &request.documents).await?;
            same_tokens(tokens, expected, &request.query)?;
            ensure!(
                reference.iter().all(|logit| logit.is_finite()),
                "the reference answers `{}` with a logit that is missing or not finite",
                request.query
            );
            queries.push(ComparedQuery { logits, reference });
        }
        Ok(queries)
    }

    /// Where the logits come from, for a report.
    pub(super) fn describe(&self, pool: &Pool) -> String {
        let Identity { model, backend, device, dtype, version, .. } = &self.identity;
        let workload = &pool.workload;
        format!(
            "{model} by server {version}, {backend} on {device} in {dtype}, {} requests of {} (sha256 {:.16})",
            workload.distinct_requests, workload.name, workload.sha256
        )
    }
}

/// The same weights, computed in f32 by a backend whose scores are a model's.
fn is_reference(identity: &Identity, compared: &Identity) -> Result<()> {
    if let Some(reason) = no_reference(identity) {
        anyhow::bail!("backend `{}` is no reference: {reason}", identity.backend);
    }
    ensure!(
        identity.dtype == "f32",
        "the reference computes in `{}`; start it with --dtype f32",
        identity.dtype
    );
    ensure!(
        identity.model_sha256 == compared.model_sha256,
        "the reference serves other weights ({} with sha256 {:.16}, against {} with {:.16}); start both with the same \
         --model",
        identity.model,
        identity.model_sha256,
        compared.model,
        compared.model_sha256
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn identity(dtype: &str, sha256: &str) -> Identity {
        Identity {
            version: "0.1.0".to_owned(),
            backend: "candle".to_owned(),
            device: "cpu".to_owned(),
            device_name: "CPU".to_owned(),
            dtype: dtype.to_owned(),
            threads: 2,
            workers: 1,
            model: "m".to_owned(),
            model_sha256: sha256.to_owned(),
            max_length: 512,
            details: BTreeMap::new(),
        }
    }

    #[test]
    fn only_the_same_weights_in_f32_are_a_reference() {
        let told = |reference: &Identity| {
            is_reference(reference, &identity("int8", "aa")).map_err(|error| error.to_string())
        };
        assert_eq!(told(&identity("f32", "aa")), Ok(()));
        let error = told(&identity("bf16", "aa")).unwrap_err();
        assert_eq!(error, "the reference computes in `bf16`; start it with --dtype f32");
        let error = told(&identity("f32", "bb")).unwrap_err();
        assert!(
            error.starts_with("the reference serves other weights (m with sha256 bb, against m with aa)"),
            "{error}"
        );
        let mut mock = identity("f32", "aa");
        mock.details.insert("backend.details.no_reference".to_owned(), "scores words".to_owned());
        assert_eq!(told(&mock).unwrap_err(), "backend `candle` is no reference: scores words");
    }
}
