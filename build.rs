//! Compiles `proto/` with protox (no protoc needed): Rust stubs for our own
//! package, and the whole descriptor set, custom options included.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut protos: Vec<PathBuf> = Vec::new();
    for folder in ["proto/assettrack/v1", "proto/google/rpc"] {
        for entry in fs::read_dir(folder)? {
            protos.push(entry?.path());
        }
    }
    protos.sort();

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(&protos)?;
    // The encoded form keeps the custom options, which prost_types drops.
    let encoded = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), &encoded)?;

    let mut set = prost_types::FileDescriptorSet::decode(encoded.as_slice())?;
    set.file.retain(|file| matches!(file.package(), "assettrack.v1" | "google.protobuf"));
    tonic_prost_build::configure().out_dir(&out).compile_fds(set)?;
    Ok(())
}
