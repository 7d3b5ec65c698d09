//! Compiles the part of the Container Runtime Interface that the agent asks to
//! a client, with protox as the root package does.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let set = protox::compile(["runtime/v1/api.proto"], ["proto/cri"])?;
    // The server's side is for tests alone.
    tonic_prost_build::configure().server_mod_attribute("runtime.v1", "#[cfg(test)]").compile_fds(set)?;
    Ok(())
}
