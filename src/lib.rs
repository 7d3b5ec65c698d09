//! AssetTrack's contracts: everything here is generated from `proto/`.

/// The package `assettrack.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction)]
pub mod v1 {
    tonic::include_proto!("assettrack.v1");
}

/// The encoded `google.protobuf.FileDescriptorSet` of all contracts with their
/// imports, comments and custom options.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
