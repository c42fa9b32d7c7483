//! The Hugging Face hub, or a mirror of it, as far as serving a checkpoint needs it: from a revision to a commit, from
//! a commit to the files that a cross-encoder consists of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use ureq::Agent;
use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, ETAG, LOCATION};
use ureq::http::{HeaderMap, Response};

use super::cache::{RepoCache, is_commit};
use super::transfer::{self, Promise};

/// A checkpoint of the hub: `ORG/NAME`, or a bare name, and a branch, tag or commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubRef {
    id: String,
    revision: String,
}

impl HubRef {
    /// `ORG/NAME[@REVISION]`; the revision is `main` where none is given.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let parts: Vec<&str> = id.split('/').collect();
        let valid = parts.len() <= 2 && parts.into_iter().chain(revision.split('/')).all(plain);
        valid.then(|| Self { id: id.to_owned(), revision: revision.to_owned() })
    }

    /// `ORG/NAME`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

impl fmt::Display for HubRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.revision == "main" {
            f.write_str(&self.id)
        } else {
            write!(f, "{}@{}", self.id, self.revision)
        }
    }
}

/// Whether this can be one part of a path, in a URL and on disk, and nothing else.
fn plain(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('.')
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Why the hub's files cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// 401 or 403, which is also what the hub answers for what does not exist.
    #[error(
        "the hub refused `{what}` ({status}{}): it is private or gated, or does not exist; check the name, or set \
         HF_TOKEN to a token that may read it",
        .reason.as_ref().map(|reason| format!(", {reason}")).unwrap_or_default()
    )]
    Refused {
        /// Repository or file.
        what: String,
        /// The answer's status.
        status: u16,
        /// The hub's own word for it.
        reason: Option<String>,
    },
    /// 404.
    #[error("the hub has no `{what}`{}", .reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default())]
    NotFound {
        /// Repository, revision or file.
        what: String,
        /// The hub's own word for it.
        reason: Option<String>,
    },
    /// Any other answer that is none.
    #[error("the hub answered {status} for `{what}`; try again later")]
    Unexpected {
        /// Repository or file.
        what: String,
        /// The answer's status.
        status: u16,
    },
    /// No answer.
    #[error("cannot reach {url}; with a copy in the cache, --offline serves without the hub")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What the network said.
        source: Box<ureq::Error>,
    },
    /// Offline, and the cache does not hold the model.
    #[error("`{what}` is not complete in the cache {} and downloads are off; start once without --offline or HF_HUB_OFFLINE", .cache.display())]
    NotCached {
        /// The model.
        what: String,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// The repository holds no checkpoint that this server reads.
    #[error("`{repo}` has no {missing}{hint}")]
    Unsuitable {
        /// The model.
        repo: String,
        /// The file that is missing.
        missing: &'static str,
        /// What would help.
        hint: &'static str,
    },
    /// The transfer ended early, several times.
    #[error("{file}: the transfer ended after {received} of {} bytes; start again to go on from there", .size.map_or("unknown".to_owned(), |size| size.to_string()))]
    Interrupted {
        /// The file.
        file: String,
        /// Bytes that arrived.
        received: u64,
        /// Bytes that were promised.
        size: Option<u64>,
    },
    /// The bytes are not the ones that were promised.
    #[error("{file} arrived damaged: expected {expected}, got {found}; it was deleted, start again")]
    Damaged {
        /// The file.
        file: String,
        /// Hash and size promised.
        expected: String,
        /// Hash and size received.
        found: String,
    },
    /// The answer makes no sense.
    #[error("the hub's answer for `{what}` cannot be used: {reason}")]
    Garbled {
        /// Repository or file.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The cache cannot be written.
    #[error("cannot write the model cache at {}; HF_HOME or HF_HUB_CACHE name another place", .path.display())]
    Cache {
        /// The path.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
}

impl HubError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Cache { path: path.to_owned(), source }
    }

    pub(super) fn unreachable(url: &str, source: ureq::Error) -> Self {
        Self::Unreachable { url: url.to_owned(), source: Box::new(source) }
    }
}

/// Where models are downloaded from and to.
#[derive(Clone, Debug)]
pub struct Hub {
    endpoint: String,
    token: Option<String>,
    cache: PathBuf,
    offline: bool,
    agent: Agent,
}

/// What the hub says of a revision.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

impl Hub {
    /// Configured by the variables that every hub client knows: `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`,
    /// `HF_HUB_CACHE`, `HF_HUB_OFFLINE`. `offline` is the command line's own word for the last one.
    pub fn from_env(var: impl Fn(&str) -> Option<String>, offline: bool) -> Self {
        let var = |name| var(name).filter(|value| !value.is_empty());
        let home = var("HF_HOME").map_or_else(
            || {
                let cache = var("XDG_CACHE_HOME").map(PathBuf::from);
                let home = || PathBuf::from(var("HOME").or_else(|| var("USERPROFILE")).unwrap_or_default());
                cache.unwrap_or_else(|| home().join(".cache")).join("huggingface")
            },
            PathBuf::from,
        );
        let token_path = var("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let token = var("HF_TOKEN").or_else(|| std::fs::read_to_string(token_path).ok());
        let truthy = |value: String| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes" | "on");
        let config = Agent::config_builder()
            .user_agent(concat!("rerank-server/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // The token goes to the hub, never to the storage that large files are redirected to.
            .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_per_read(Some(Duration::from_mins(1)))
            .build();
        Self {
            endpoint: var("HF_ENDPOINT")
                .unwrap_or("https://huggingface.co".into())
                .trim_end_matches('/')
                .to_owned(),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            cache: var("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            offline: offline || var("HF_HUB_OFFLINE").is_some_and(truthy),
            agent: config.into(),
        }
    }

    /// The folder that holds the checkpoint, after downloading what the cache lacks.
    pub fn fetch(&self, reference: &HubRef) -> Result<PathBuf, HubError> {
        let repo = RepoCache::new(&self.cache, &reference.id);
        let cached = || {
            let pinned = is_commit(&reference.revision).then(|| reference.revision.clone());
            let snapshot = repo.snapshot(&pinned.or_else(|| repo.commit(&reference.revision))?);
            complete(&snapshot).then_some(snapshot)
        };
        if self.offline {
            let cache = self.cache.clone();
            return cached().ok_or_else(|| HubError::NotCached { what: reference.to_string(), cache });
        }
        if is_commit(&reference.revision)
            && let Some(snapshot) = cached()
        {
            return Ok(snapshot);
        }
        match self.download(reference, &repo) {
            Err(HubError::Unreachable { url, source }) => match cached() {
                Some(snapshot) => {
                    tracing::warn!(model = %reference, error = %source, "cannot reach the hub; serving the cached copy");
                    Ok(snapshot)
                }
                None => Err(HubError::Unreachable { url, source }),
            },
            other => other,
        }
    }

    fn download(&self, reference: &HubRef, repo: &RepoCache) -> Result<PathBuf, HubError> {
        let listing = self.listing(reference)?;
        let files: BTreeSet<&str> =
            listing.siblings.iter().map(|sibling| sibling.rfilename.as_str()).collect();
        let commit = &listing.sha;
        let unsuitable = |missing, hint| HubError::Unsuitable { repo: reference.to_string(), missing, hint };
        let get = |file: &str| self.file(reference, repo, commit, file);
        for (needed, hint) in [
            ("config.json", ""),
            ("tokenizer.json", "; only fast tokenizers are supported: save one with Python's transformers"),
        ] {
            if !files.contains(needed) {
                return Err(unsuitable(needed, hint));
            }
            get(needed)?;
        }
        if files.contains(SINGLE) {
            get(SINGLE)?;
        } else if files.contains(INDEX) {
            let index = get(INDEX)?;
            for shard in shards(&index)? {
                get(&shard)?;
            }
        } else if files.contains("pytorch_model.bin") {
            let hint =
                ", only pytorch_model.bin, which can run code when it is read; convert it to safetensors";
            return Err(unsuitable(SINGLE, hint));
        } else {
            return Err(unsuitable(SINGLE, ""));
        }
        if !is_commit(&reference.revision) {
            repo.remember(&reference.revision, commit).map_err(|source| HubError::io(&self.cache, source))?;
        }
        Ok(repo.snapshot(commit))
    }

    fn listing(&self, reference: &HubRef) -> Result<Listing, HubError> {
        let revision = reference.revision.replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}", self.endpoint, reference.id);
        let mut request = self.agent.get(&url);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut response = request.call().map_err(|source| HubError::unreachable(&url, source))?;
        if !response.status().is_success() {
            return Err(refused(&response, &reference.to_string()));
        }
        let garbled = |reason: String| HubError::Garbled { what: reference.to_string(), reason };
        let listing: Listing = response.body_mut().read_json().map_err(|error| garbled(error.to_string()))?;
        if is_commit(&listing.sha) {
            Ok(listing)
        } else {
            Err(garbled(format!("`{}` is not a commit", listing.sha)))
        }
    }

    /// Brings one file into the cache, if it is not there, and returns where it lies.
    fn file(
        &self,
        reference: &HubRef,
        repo: &RepoCache,
        commit: &str,
        file: &str,
    ) -> Result<PathBuf, HubError> {
        let path = repo.snapshot(commit).join(file);
        if path.exists() {
            return Ok(path);
        }
        let promise = self.promise(reference, commit, file)?;
        let blob = repo.blob(&promise.etag);
        let lock = repo.lock(&promise.etag).map_err(|source| HubError::io(&blob, source))?;
        if !blob.exists() {
            tracing::info!(model = %reference, file, bytes = promise.size, "downloading");
            let progress = transfer::progress(file, promise.size);
            transfer::download(&self.agent, self.token.as_deref(), &promise, &blob, &progress)?;
            progress.finish_and_clear();
        }
        repo.point(commit, file, &promise.etag).map_err(|source| HubError::io(&path, source))?;
        drop(lock);
        Ok(path)
    }

    /// Asks for a file's hash and size. Large files answer with a redirect to their storage, whose headers speak of the
    /// hash too, so only redirects within the hub are followed, as for a repository that was renamed.
    fn promise(&self, reference: &HubRef, commit: &str, file: &str) -> Result<Promise, HubError> {
        let mut url = format!("{}/{}/resolve/{commit}/{file}", self.endpoint, reference.id);
        let garbled = |reason: &str| HubError::Garbled { what: file.to_owned(), reason: reason.to_owned() };
        for _ in 0..5 {
            let mut request = self.agent.head(&url).header(ACCEPT_ENCODING, "identity");
            if let Some(token) = &self.token {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            let request = request.config().max_redirects(0).max_redirects_will_error(false).build();
            let response = request.call().map_err(|source| HubError::unreachable(&url, source))?;
            let headers = response.headers();
            match header(headers, LOCATION.as_str()) {
                Some(path) if response.status().is_redirection() && path.starts_with('/') => {
                    url = format!("{}{path}", self.endpoint);
                    continue;
                }
                _ if response.status().is_redirection() || response.status().is_success() => {}
                _ => return Err(refused(&response, file)),
            }
            let etag = header(headers, "x-linked-etag").or_else(|| header(headers, ETAG.as_str()));
            let etag =
                etag.map(|tag| tag.trim_start_matches("W/").trim_matches('"')).filter(|tag| plain(tag));
            let size = header(headers, "x-linked-size").or_else(|| {
                // A redirect's own length says nothing about the file.
                response.status().is_success().then(|| header(headers, CONTENT_LENGTH.as_str())).flatten()
            });
            return Ok(Promise {
                file: file.to_owned(),
                url,
                etag: etag.ok_or_else(|| garbled("it has no usable ETag"))?.to_owned(),
                size: size.and_then(|size| size.parse().ok()),
            });
        }
        Err(garbled("it redirects in circles"))
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An answer that is no success, as an error.
pub(super) fn refused<B>(response: &Response<B>, what: &str) -> HubError {
    let reason = header(response.headers(), "x-error-message").or(header(response.headers(), "x-error-code"));
    let (what, reason) = (what.to_owned(), reason.map(str::to_owned));
    match response.status().as_u16() {
        status @ (401 | 403) => HubError::Refused { what, status, reason },
        404 => HubError::NotFound { what, reason },
        status => HubError::Unexpected { what, status },
    }
}

/// The files that a sharded checkpoint's index names.
fn shards(index: &Path) -> Result<BTreeSet<String>, HubError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let garbled = |reason: String| HubError::Garbled { what: INDEX.to_owned(), reason };
    let json = std::fs::read(index).map_err(|source| HubError::io(index, source))?;
    let index: Index = serde_json::from_slice(&json).map_err(|error| garbled(error.to_string()))?;
    match index.weight_map.values().find(|file| !plain(file)) {
        Some(file) => Err(garbled(format!("`{file}` is not a plain file name"))),
        None => Ok(index.weight_map.into_values().collect()),
    }
}

/// Whether a snapshot holds everything that serving needs.
fn complete(snapshot: &Path) -> bool {
    let has = |file: &str| snapshot.join(file).exists();
    let weights = || match shards(&snapshot.join(INDEX)) {
        Ok(shards) => !shards.is_empty() && shards.iter().all(|shard| has(shard)),
        Err(_) => false,
    };
    has("config.json") && has("tokenizer.json") && (has(SINGLE) || weights())
}
