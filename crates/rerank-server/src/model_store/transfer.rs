//! One file from the hub to the cache: resumed where an earlier try stopped, checked against what the hub promised,
//! and visible under its name only when it is whole.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::http::header::{AUTHORIZATION, RANGE};

use super::hub::{HubError, refused};

/// What the hub says of a file.
#[derive(Debug)]
pub(super) struct Promise {
    pub(super) file: String,
    pub(super) url: String,
    /// SHA-256 of a large file, git's object id of a small one; a mirror may answer something else.
    pub(super) etag: String,
    pub(super) size: Option<u64>,
}

/// How often one file is tried; each try goes on where the last one stopped.
const TRIES: usize = 3;

/// Brings the file to `blob`. The caller holds the blob's lock.
pub(super) fn download(
    agent: &Agent,
    token: Option<&str>,
    promise: &Promise,
    blob: &Path,
    progress: &ProgressBar,
) -> Result<(), HubError> {
    let partial = blob.with_extension("incomplete");
    let mut last = None;
    for _ in 0..TRIES {
        match receive(agent, token, promise, &partial, progress) {
            Ok(()) => {
                verify(promise, &partial)?;
                return fs::rename(&partial, blob).map_err(|source| HubError::io(blob, source));
            }
            Err(error @ HubError::Interrupted { .. }) => {
                tracing::warn!(%error, "the download was cut off; it goes on from there");
                last = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(last.expect("there was at least one try"))
}

fn receive(
    agent: &Agent,
    token: Option<&str>,
    promise: &Promise,
    partial: &Path,
    progress: &ProgressBar,
) -> Result<(), HubError> {
    let write_error = |source| HubError::io(partial, source);
    let mut file = File::options().create(true).append(true).open(partial).map_err(write_error)?;
    let mut have = file.metadata().map_err(write_error)?.len();
    if promise.size.is_some_and(|size| have > size) {
        file.set_len(0).map_err(write_error)?;
        have = 0;
    }
    if promise.size == Some(have) && have > 0 {
        return Ok(());
    }
    let mut request = agent.get(&promise.url);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let response = request.call().map_err(|source| HubError::unreachable(&promise.url, source))?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {}
        StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE => {
            // The server starts over, so we do too.
            file.set_len(0).map_err(write_error)?;
            have = 0;
            if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                return Err(HubError::Interrupted {
                    file: promise.file.clone(),
                    received: 0,
                    size: promise.size,
                });
            }
        }
        _ => return Err(refused(&response, &promise.file)),
    }
    progress.set_position(have);
    let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let interrupted =
            |received| HubError::Interrupted { file: promise.file.clone(), received, size: promise.size };
        match body.read(&mut buffer) {
            Ok(0) if promise.size.is_some_and(|size| have < size) => return Err(interrupted(have)),
            Ok(0) => return file.sync_all().map_err(write_error),
            Ok(read) => {
                file.write_all(&buffer[..read]).map_err(write_error)?;
                have += read as u64;
                progress.set_position(have);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::debug!(%error, file = promise.file, "transfer failed");
                return Err(interrupted(have));
            }
        }
    }
}

/// Compares size and hash; what does not match is deleted, since resuming it could never succeed.
fn verify(promise: &Promise, path: &Path) -> Result<(), HubError> {
    let read_error = |source| HubError::io(path, source);
    let size = fs::metadata(path).map_err(read_error)?.len();
    let found = match promise.etag.len() {
        64 => hash::<Sha256>(path, &[]).map_err(read_error)?,
        40 => hash::<Sha1>(path, format!("blob {size}\0").as_bytes()).map_err(read_error)?,
        _ => promise.etag.clone(),
    };
    let expected_size = promise.size.unwrap_or(size);
    if found.eq_ignore_ascii_case(&promise.etag) && size == expected_size {
        return Ok(());
    }
    fs::remove_file(path).map_err(read_error)?;
    Err(HubError::Damaged {
        file: promise.file.clone(),
        expected: format!("{} ({expected_size} bytes)", promise.etag),
        found: format!("{found} ({size} bytes)"),
    })
}

/// Hex digest of `prefix` and then the file.
fn hash<D: Digest>(path: &Path, prefix: &[u8]) -> io::Result<String> {
    let mut digest = D::new();
    digest.update(prefix);
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => {
                return Ok(digest.finalize().iter().fold(String::new(), |mut hex, byte| {
                    write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
                    hex
                }));
            }
            read => digest.update(&buffer[..read]),
        }
    }
}

/// A bar on a terminal; elsewhere it draws nothing.
pub(super) fn progress(file: &str, size: Option<u64>) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg:<32} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
            .expect("the template is a constant");
    ProgressBar::new(size.unwrap_or(0)).with_style(style).with_message(file.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(etag: &str, size: u64) -> Promise {
        Promise { file: "f".into(), url: String::new(), etag: etag.into(), size: Some(size) }
    }

    #[test]
    fn both_of_the_hubs_hashes_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "hello\n").unwrap();
        verify(&promise("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03", 6), &path)
            .unwrap();
        // What `git hash-object` prints.
        verify(&promise("ce013625030ba8dba906f756967f9e9ca394464a", 6), &path).unwrap();
        verify(&promise("a-mirrors-own-tag", 6), &path).unwrap();
    }

    #[test]
    fn what_does_not_match_is_refused_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for bad in [promise(&"0".repeat(64), 6), promise("ce013625030ba8dba906f756967f9e9ca394464a", 7)] {
            fs::write(&path, "hello\n").unwrap();
            assert!(matches!(verify(&bad, &path), Err(HubError::Damaged { .. })));
            assert!(!path.exists());
        }
    }
}
