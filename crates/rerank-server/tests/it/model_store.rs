//! Downloads, against a stand-in for the hub on this machine: what arrives, what is kept, and what is said when it goes
//! wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use rerank_server::model_store::{Hub, HubError, ModelRef, StoreError, open};
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one model, and what went wrong with it today.
#[derive(Default)]
struct Fake {
    files: BTreeMap<String, Vec<u8>>,
    /// Asked of every request, if set.
    token: Option<&'static str>,
    /// Bodies stop in the middle this many times.
    cut_short: Mutex<usize>,
    /// The weights' promised hash is another one.
    lies: bool,
    seen: Mutex<Vec<String>>,
}

struct FakeHub {
    url: String,
    state: Arc<Fake>,
    cache: tempfile::TempDir,
}

impl FakeHub {
    async fn start(fake: Fake) -> Self {
        let state = Arc::new(fake);
        let router = Router::new().fallback(serve).with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state, cache: tempfile::tempdir().unwrap() }
    }

    /// Opens a model as the server would, with these variables.
    async fn open(
        &self,
        name: &str,
        variables: &[(&str, &str)],
        offline: bool,
    ) -> Result<String, StoreError> {
        let mut variables: BTreeMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        variables.insert("HF_HOME".to_owned(), self.cache.path().to_str().unwrap().to_owned());
        variables.entry("HF_ENDPOINT".to_owned()).or_insert_with(|| self.url.clone());
        let reference: ModelRef = name.parse().unwrap();
        tokio::task::spawn_blocking(move || {
            let hub = Hub::from_env(|name| variables.get(name).cloned(), offline);
            open(&reference, &hub).map(|open| format!("{} {}", open.model.name, open.model.weights.sha256()))
        })
        .await
        .unwrap()
    }

    fn repo(&self) -> PathBuf {
        self.cache.path().join("hub/models--org--tiny")
    }

    fn downloads(&self) -> usize {
        let seen = self.state.seen.lock().unwrap();
        seen.iter().filter(|line| line.starts_with("GET") && line.contains("/resolve/")).count()
    }
}

fn tiny() -> BTreeMap<String, Vec<u8>> {
    let file = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    BTreeMap::from([
        file("config.json", rerank_model_tiny::config()),
        file("tokenizer.json", rerank_model_tiny::tokenizer()),
        file("model.safetensors", rerank_model_tiny::weights()),
        file("README.md", b"not needed"),
    ])
}

fn hex(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}

async fn serve(State(fake): State<Arc<Fake>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let range = request.headers().get("range").map(|value| value.to_str().unwrap().to_owned());
    let line = format!("{} {path} {}", request.method(), range.as_deref().unwrap_or_default());
    fake.seen.lock().unwrap().push(line.trim_end().to_owned());
    if let Some(token) = fake.token
        && request.headers().get("authorization").is_none_or(|value| value != &format!("Bearer {token}"))
    {
        return (StatusCode::UNAUTHORIZED, [("x-error-message", "Access to model org/tiny is restricted")])
            .into_response();
    }
    if path == "/api/models/org/tiny/revision/main"
        || path == format!("/api/models/org/tiny/revision/{COMMIT}")
    {
        let siblings: Vec<_> = fake.files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        return axum::Json(serde_json::json!({"sha": COMMIT, "siblings": siblings, "likes": 3}))
            .into_response();
    }
    let file = path
        .strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/"))
        .and_then(|name| fake.files.get_key_value(name));
    match file {
        Some((name, bytes)) => answer_file(&fake, name, bytes, request.method(), range.as_deref()),
        None => (StatusCode::NOT_FOUND, [("x-error-code", "RepoNotFound")]).into_response(),
    }
}

/// Small files carry git's hash as their `ETag`; large ones point at their `SHA-256`, as the hub does.
fn answer_file(fake: &Fake, name: &str, bytes: &[u8], method: &Method, range: Option<&str>) -> Response {
    let mut headers = HeaderMap::new();
    if name.ends_with(".safetensors") {
        let hash = if fake.lies { "0".repeat(64) } else { hex(bytes) };
        headers.insert("x-linked-etag", format!("\"{hash}\"").parse().unwrap());
        headers.insert("x-linked-size", bytes.len().into());
        headers.insert("etag", "\"of-the-storage\"".parse().unwrap());
    } else {
        headers.insert("etag", format!("W/\"{}\"", git_hash(bytes)).parse().unwrap());
    }
    headers.insert("x-repo-commit", COMMIT.parse().unwrap());
    if method == Method::HEAD {
        headers.insert("content-length", bytes.len().into());
        return (headers, Body::empty()).into_response();
    }
    let start: usize =
        range.map_or(0, |range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
    let status = if start > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut left = fake.cut_short.lock().unwrap();
    if *left > 0 && name.ends_with(".safetensors") {
        *left -= 1;
        let middle = start + (bytes.len() - start) / 2;
        let (half, promised) = (bytes[start..middle].to_vec(), bytes.len() - start);
        headers.insert("content-length", promised.into());
        // The connection closes before the promised length, as when a network breaks.
        let body = Body::from_stream(tokio_stream::iter([Ok(half), Err(std::io::Error::other("cut"))]));
        return (status, headers, body).into_response();
    }
    (status, headers, bytes[start..].to_vec()).into_response()
}

fn git_hash(bytes: &[u8]) -> String {
    use sha1::Digest as _;
    let mut hasher = sha1::Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    to_hex(&hasher.finalize())
}

fn to_hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_downloaded_once_in_the_layout_that_python_shares() {
    let hub = FakeHub::start(Fake { files: tiny(), ..Fake::default() }).await;
    let opened = hub.open("org/tiny", &[], false).await.unwrap();
    assert_eq!(opened, format!("org/tiny {}", hex(rerank_model_tiny::weights())));
    assert_eq!(hub.downloads(), 3, "config, tokenizer, weights and nothing else");

    let repo = hub.repo();
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    let pointer = repo.join("snapshots").join(COMMIT).join("model.safetensors");
    let blob = Path::new("../../blobs").join(hex(rerank_model_tiny::weights()));
    #[cfg(unix)]
    assert_eq!(std::fs::read_link(&pointer).unwrap(), blob);
    assert_eq!(std::fs::read(&pointer).unwrap(), rerank_model_tiny::weights());
    let blobs: Vec<_> =
        std::fs::read_dir(repo.join("blobs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(blobs.len(), 3, "nothing unfinished is left: {blobs:?}");

    hub.open("org/tiny", &[], false).await.unwrap();
    assert_eq!(hub.downloads(), 3, "the second time comes from the cache");
    hub.open(&format!("org/tiny@{COMMIT}"), &[], false).await.unwrap();
    let seen = hub.state.seen.lock().unwrap().len();
    hub.open("org/tiny", &[], true).await.unwrap();
    assert_eq!(hub.state.seen.lock().unwrap().len(), seen, "offline asks nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sharded_weights_are_brought_whole() {
    let mut files = tiny();
    let weights = files.remove("model.safetensors").unwrap();
    let index = serde_json::json!({"weight_map": {"any": "model-00001-of-00001.safetensors"}});
    files.insert("model.safetensors.index.json".to_owned(), index.to_string().into_bytes());
    files.insert("model-00001-of-00001.safetensors".to_owned(), weights);
    let hub = FakeHub::start(Fake { files, ..Fake::default() }).await;
    hub.open("org/tiny", &[], false).await.unwrap();
    hub.open("org/tiny", &[], true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_opens_what_is_gated() {
    let hub = FakeHub::start(Fake { files: tiny(), token: Some("hf_secret"), ..Fake::default() }).await;
    let error = hub.open("org/tiny", &[], false).await.unwrap_err().to_string();
    insta::assert_snapshot!(error, @"the hub refused `org/tiny` (401, Access to model org/tiny is restricted): it is private or gated, or does not exist; check the name, or set HF_TOKEN to a token that may read it");
    hub.open("org/tiny", &[("HF_TOKEN", "hf_secret\n")], false).await.unwrap();
    std::fs::write(hub.cache.path().join("token"), "hf_secret").unwrap();
    hub.open("org/tiny", &[], false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_exist_or_cannot_be_read_is_said() {
    let mut files = tiny();
    files.remove("model.safetensors");
    files.insert("pytorch_model.bin".to_owned(), vec![1]);
    let hub = FakeHub::start(Fake { files, ..Fake::default() }).await;
    insta::assert_snapshot!(hub.open("org/other@v2", &[], false).await.unwrap_err(), @"the hub has no `org/other@v2` (RepoNotFound)");
    insta::assert_snapshot!(hub.open("org/tiny", &[], false).await.unwrap_err(), @"`org/tiny` has no model.safetensors, only pytorch_model.bin, which can run code when it is read; convert it to safetensors");

    let mut files = tiny();
    files.remove("tokenizer.json");
    let hub = FakeHub::start(Fake { files, ..Fake::default() }).await;
    insta::assert_snapshot!(hub.open("org/tiny", &[], false).await.unwrap_err(), @"`org/tiny` has no tokenizer.json; only fast tokenizers are supported: save one with Python's transformers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_breaks_is_resumed() {
    let hub = FakeHub::start(Fake { files: tiny(), cut_short: Mutex::new(2), ..Fake::default() }).await;
    hub.open("org/tiny", &[], false).await.unwrap();
    let seen = hub.state.seen.lock().unwrap();
    let resumed = seen.iter().filter(|line| line.contains("bytes=")).count();
    assert_eq!(resumed, 2, "each try goes on where the last one stopped: {seen:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_breaks_again_and_again_is_an_error_that_can_be_resumed() {
    let hub = FakeHub::start(Fake { files: tiny(), cut_short: Mutex::new(3), ..Fake::default() }).await;
    let error = hub.open("org/tiny", &[], false).await.unwrap_err();
    assert!(matches!(error, StoreError::Hub(HubError::Interrupted { .. })), "{error}");
    hub.open("org/tiny", &[], false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_bytes_are_never_served() {
    let hub = FakeHub::start(Fake { files: tiny(), lies: true, ..Fake::default() }).await;
    let error = hub.open("org/tiny", &[], false).await.unwrap_err();
    assert!(matches!(error, StoreError::Hub(HubError::Damaged { .. })), "{error}");
    assert!(!hub.repo().join("snapshots").join(COMMIT).join("model.safetensors").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_network_the_cache_serves_or_says_what_it_lacks() {
    let hub = FakeHub::start(Fake { files: tiny(), ..Fake::default() }).await;
    let offline = hub.open("org/tiny", &[("HF_HUB_OFFLINE", "1")], false).await.unwrap_err().to_string();
    assert!(offline.contains("not complete in the cache") && offline.contains("--offline"), "{offline}");

    // Nothing listens there any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let unreachable =
        hub.open("org/tiny", &[("HF_ENDPOINT", &nowhere)], false).await.unwrap_err().to_string();
    assert!(unreachable.contains("cannot reach"), "{unreachable}");

    hub.open("org/tiny", &[], false).await.unwrap();
    hub.open("org/tiny", &[("HF_ENDPOINT", &nowhere)], false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_that_start_together_download_once() {
    let hub = FakeHub::start(Fake { files: tiny(), ..Fake::default() }).await;
    let (first, second) = tokio::join!(hub.open("org/tiny", &[], false), hub.open("org/tiny", &[], false));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(hub.downloads(), 3);
}
