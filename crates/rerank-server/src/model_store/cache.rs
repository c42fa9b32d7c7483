//! The on-disk cache, in the layout of Python's `huggingface_hub`, so that both share one copy of every file:
//! `models--ORG--NAME/{blobs/<etag>, refs/<revision>, snapshots/<commit>/<file> -> blobs}` and `.locks/` beside them.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// One repository's part of the cache.
#[derive(Debug)]
pub(super) struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, id: &str) -> Self {
        let folder = format!("models--{}", id.replace('/', "--"));
        Self { root: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    /// The commit that `revision` was when it was last looked up.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    pub(super) fn remember(&self, revision: &str, commit: &str) -> io::Result<()> {
        let path = self.root.join("refs").join(revision);
        if fs::read_to_string(&path).is_ok_and(|old| old == commit) {
            return Ok(());
        }
        create_parent(&path)?;
        replace(&path, |scratch| fs::write(scratch, commit))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Makes the snapshot's `file` be the blob: a relative link, so that the cache can be moved; a copy where the
    /// system has no links for ordinary users.
    pub(super) fn point(&self, commit: &str, file: &str, etag: &str) -> io::Result<()> {
        let pointer = self.snapshot(commit).join(file);
        if pointer.exists() {
            return Ok(());
        }
        create_parent(&pointer)?;
        replace(&pointer, |scratch| {
            #[cfg(unix)]
            return std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), scratch);
            #[cfg(not(unix))]
            return fs::copy(self.blob(etag), scratch).map(drop);
        })
    }

    /// Holds the blob's lock until the file is dropped. It is the lock that `huggingface_hub` takes.
    pub(super) fn lock(&self, etag: &str) -> io::Result<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        create_parent(&self.blob(etag))?;
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::info!(lock = %path.display(), "waiting for another process that downloads the same file");
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(file)
    }
}

/// Whether this is a full commit hash, which never moves and so needs no look-up.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn create_parent(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path.parent().expect("every path of the cache lies in a folder"))
}

/// Makes `path` appear at once and whole, or not at all.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut name = path.file_name().expect("every path of the cache has a name").to_owned();
    name.push(format!(".{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let scratch = path.with_file_name(name);
    make(&scratch)?;
    fs::rename(&scratch, path)
}
