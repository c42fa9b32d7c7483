//! Memory-mapped files: a checkpoint is paged in as it is read, and shared between processes.
#![expect(unsafe_code, reason = "mapping a file is unsafe: another process could change it")]

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// A file's contents, mapped read-only.
pub(super) struct MappedFile(Mmap);

impl MappedFile {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is private to this type and read-only. A checkpoint is immutable by convention (hub
        // snapshots are content-addressed); a process that truncates it while it is mapped makes reads fault, which
        // is the price that every user of mapped safetensors pays and documents. Every read goes through bounds-checked
        // slices whose range was validated against the length at mapping time.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(map))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
