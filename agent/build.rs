//! Compiles the part of the Container Runtime Interface that the agent asks to
//! a client, with protox as the root package does.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let set = protox::compile(["runtime/v1/api.proto"], ["proto/cri"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(set)?;
    Ok(())
}
