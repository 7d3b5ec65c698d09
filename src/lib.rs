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

/// What agents see as ProtoJSON, without a descriptor at hand; generated from
/// `details.proto`.
pub mod json {
    use crate::v1;

    /// Name of a field.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Name {
        /// As ProtoJSON has it, such as `displayName`.
        pub json: &'static str,
        /// As the contracts have it, such as `display_name`.
        pub proto: &'static str,
    }

    /// What writes an object. It leaves out what has its default: empty texts and
    /// lists, `false`, 0 of longs and the first value of enums.
    pub trait JsonObject {
        /// A text.
        fn text(&mut self, name: Name, text: &str);
        /// A list of texts.
        fn texts(&mut self, name: Name, texts: &[String]);
        /// A flag.
        fn flag(&mut self, name: Name, flag: bool);
        /// A number of at most 32 bits, 0 too.
        fn number(&mut self, name: Name, number: i64);
        /// A list of numbers.
        fn numbers(&mut self, name: Name, numbers: &[u32]);
        /// A number of 64 bits, which ProtoJSON has as a text.
        fn long(&mut self, name: Name, number: u64);
        /// A value of an enum: by its name, or by number if it is not known.
        fn word(&mut self, name: Name, number: i32, word: Option<&'static str>);
        /// A time.
        fn time(&mut self, name: Name, time: &prost_types::Timestamp);
        /// A message.
        fn message(&mut self, name: Name, message: &dyn WriteJson);
        /// A list of messages.
        fn messages(&mut self, name: Name, messages: &mut dyn ExactSizeIterator<Item = &dyn WriteJson>);
    }

    /// What has fields.
    pub trait WriteJson {
        /// Shows each field by its name.
        fn fields(&self, object: &mut dyn JsonObject);
    }

    include!(concat!(env!("OUT_DIR"), "/json.rs"));
}
