//! What the gateway answers itself: health, reflection and the overview.

use kit::readiness::Readiness;
use prost::Message;
use prost_reflect::DescriptorPool;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{overview::Overview, table::Table};
use contracts::v1::overview_service_server::OverviewServiceServer;

/// Services that are not in the contracts, and are public all the same.
const STANDARD_SERVICES: &[&str] = &[
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Why the gateway's own services cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The descriptor set is broken.
    #[error("the descriptor set cannot be read: {0}")]
    Decode(#[from] prost::DecodeError),
    /// Reflection does not take it.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Whether a path is one of the standard services.
pub fn is_standard(path: &str) -> bool {
    STANDARD_SERVICES.iter().any(|service| path.split('/').nth(1) == Some(service))
}

/// Builds the services. Health follows `readiness` until `shutdown`.
///
/// # Errors
/// See [`LocalError`].
pub fn routes(
    table: &Table,
    overview: Overview,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> Result<Routes, LocalError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(kit::grpc::report_health(reporter, readiness, shutdown));
    let public = public_files(table)?;
    let reflection = || {
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(&public)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        for name in table.services().into_iter().chain(STANDARD_SERVICES.iter().copied()) {
            builder = builder.with_service_name(name);
        }
        builder
    };
    Ok(Routes::new(OverviewServiceServer::new(overview))
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .prepare())
}

/// A FileDescriptorSet whose files stay encoded, since decoding them would
/// drop the custom options.
#[derive(Clone, PartialEq, Message)]
struct EncodedFiles {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

/// The files of the public services and what they import: internal services
/// are not shown to the outside.
fn public_files(table: &Table) -> Result<Vec<u8>, prost::DecodeError> {
    let pool = table.pool();
    let mut wanted: Vec<String> = Vec::new();
    for service in pool.services().filter(|service| table.services().contains(&service.full_name())) {
        add_with_imports(pool, service.parent_file().name(), &mut wanted);
    }
    // Error details are part of every answer, though no file imports them.
    add_with_imports(pool, "google/rpc/error_details.proto", &mut wanted);
    let mut files = EncodedFiles::decode(contracts::DESCRIPTOR_SET)?;
    let mut kept = Vec::new();
    for encoded in files.file.drain(..) {
        let name = prost_types::FileDescriptorProto::decode(encoded.as_slice())?.name.unwrap_or_default();
        if wanted.contains(&name) {
            kept.push(encoded);
        }
    }
    Ok(EncodedFiles { file: kept }.encode_to_vec())
}

fn add_with_imports(pool: &DescriptorPool, name: &str, wanted: &mut Vec<String>) {
    if wanted.iter().any(|known| known == name) {
        return;
    }
    let Some(file) = pool.get_file_by_name(name) else { return };
    wanted.push(name.to_owned());
    for import in file.dependencies() {
        add_with_imports(pool, import.name(), wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_services_are_not_reflected_and_options_are_kept() {
        let table = Table::build(contracts::DESCRIPTOR_SET).unwrap();
        let pool = DescriptorPool::decode(public_files(&table).unwrap().as_slice()).unwrap();
        let services: Vec<String> = pool.services().map(|service| service.full_name().to_owned()).collect();
        assert!(services.contains(&"assettrack.v1.AssetService".to_owned()), "{services:?}");
        assert!(
            !services.iter().any(|name| name.contains("Ingest") || name.contains("AgentService")),
            "{services:?}"
        );
        let get = pool
            .get_service_by_name("assettrack.v1.AssetService")
            .unwrap()
            .methods()
            .find(|m| m.name() == "GetAsset");
        let http = pool.get_extension_by_name("google.api.http").unwrap();
        assert!(get.unwrap().options().has_extension(&http));
        assert!(pool.get_message_by_name("google.rpc.BadRequest").is_some());
    }
}
