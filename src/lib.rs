//! AssetTrack's contracts: everything here is generated from `proto/`.

/// The package `assettrack.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction)]
pub mod v1 {
    tonic::include_proto!("assettrack.v1");
}

/// The encoded `google.protobuf.FileDescriptorSet` of all contracts with their
/// imports, comments and custom options.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// A walk over all texts, lists and times of what agents see, generated from
/// `details.proto`.
pub mod walk {
    use crate::v1;

    /// What is done with each text and list.
    pub trait Walker {
        /// A text.
        fn text(&mut self, text: &mut String);
        /// A list of texts.
        fn texts(&mut self, texts: &mut Vec<String>);
        /// A list of messages has this length; answers how many may stay. Each
        /// of these is walked then.
        fn longest_list(&mut self, length: usize) -> usize;
    }

    /// What can be walked.
    pub trait Walk {
        /// Shows each text and list, nested ones too, to the walker.
        fn walk(&mut self, walker: &mut dyn Walker);
        /// Shows each time, nested ones too, with the name of its field.
        fn times(&self, see: &mut dyn FnMut(&'static str, &prost_types::Timestamp));
    }

    include!(concat!(env!("OUT_DIR"), "/walk.rs"));
}
