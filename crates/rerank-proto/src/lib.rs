//! The gRPC services as Rust: client and server code and their descriptors, generated from proto/ and committed, so
//! that no build needs protoc. Regenerate with `cargo xtask codegen`; nothing here is edited by hand.

/// Our own service, `rerank.v1`.
pub mod rerank {
    /// Version 1.
    #[allow(missing_docs, unused_qualifications, clippy::pedantic, reason = "generated")]
    pub mod v1 {
        include!("generated/rerank.v1.rs");
    }
}

/// The encoded `google.protobuf.FileDescriptorSet` of every service above, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.binpb");

/// Full name of our service, as gRPC health checks and reflection know it.
pub const SERVICE_NAME: &str = rerank::v1::rerank_server::SERVICE_NAME;
