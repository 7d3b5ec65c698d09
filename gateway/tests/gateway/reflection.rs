//! Reflection and health by real clients.

use futures::StreamExt;
use prost::Message;
use prost_reflect::DescriptorPool;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{System, until};

async fn channel(system: &System) -> Channel {
    Channel::from_shared(format!("http://{}", system.address)).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn only_public_services_are_listed_in_both_versions() {
    let system = System::start().await;
    let expected = [
        "assettrack.v1.AssetService",
        "assettrack.v1.CollectorService",
        "assettrack.v1.CustomFieldService",
        "assettrack.v1.DeadLetterService",
        "assettrack.v1.EventService",
        "assettrack.v1.ImageService",
        "assettrack.v1.IntegrityService",
        "assettrack.v1.NodeService",
        "assettrack.v1.OverviewService",
        "assettrack.v1.SavedSearchService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel(&system).await);
    let request = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut answers =
        client.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    let mut names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, expected);

    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel(&system).await);
    let request = v1alpha::ServerReflectionRequest {
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
        ..Default::default()
    };
    let mut answers =
        client.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(list.service.len(), expected.len());
}

async fn file(system: &System, symbol: &str) -> Result<Vec<u8>, tonic::Status> {
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel(system).await);
    let wanted = v1::server_reflection_request::MessageRequest::FileContainingSymbol(symbol.to_owned());
    let request = v1::ServerReflectionRequest { message_request: Some(wanted), ..Default::default() };
    let mut answers = client.server_reflection_info(futures::stream::iter([request])).await?.into_inner();
    match answers.next().await.unwrap()?.message_response.unwrap() {
        v1::server_reflection_response::MessageResponse::FileDescriptorResponse(mut files) => {
            Ok(files.file_descriptor_proto.remove(0))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reflected_file_keeps_its_rest_bindings_and_internal_ones_are_not_found() {
    let system = System::start().await;
    let encoded = file(&system, "assettrack.v1.AssetService").await.unwrap();
    let options = DescriptorPool::decode(contracts::DESCRIPTOR_SET).unwrap();
    let descriptor = options.get_message_by_name("google.protobuf.FileDescriptorProto").unwrap();
    let file_descriptor = prost_reflect::DynamicMessage::decode(descriptor, encoded.as_slice()).unwrap();
    let text = serde_json::to_string(&file_descriptor).unwrap();
    assert!(text.contains("[google.api.http]") && text.contains("/v1/{name=assets/*}"), "{text}");
    assert_eq!(file_descriptor.encode_to_vec().len(), encoded.len());
    let internal = file(&system, "assettrack.v1.IngestService").await.unwrap_err();
    assert_eq!(internal.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn health_follows_the_processor() {
    let system = System::start().await;
    let channel = channel(&system).await;
    let ask = async || {
        let mut client = HealthClient::new(channel.clone());
        client.check(HealthCheckRequest::default()).await.unwrap().into_inner().status
    };
    const SERVING: i32 = 1;
    const NOT_SERVING: i32 = 2;
    until("serving", async || ask().await == SERVING).await;
    system.stop_processor.cancel();
    until("not serving", async || ask().await == NOT_SERVING).await;
}
