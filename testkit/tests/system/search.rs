//! Searches through the gateway: gRPC and REST give the same answers to the same
//! questions.

use contracts::v1::{
    Asset, CreateAssetRequest, ListAssetsRequest, ManagedFields, SummarizeAssetsRequest,
    asset_service_client::AssetServiceClient,
};
use serde_json::Value;
use testkit::http_get;
use tonic::Code;

use crate::system::System;

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_answer_the_same_by_grpc_and_rest() {
    let system = System::start().await;
    let mut assets = AssetServiceClient::new(system.channel().await);
    for (name, owner) in [("rack 1", "ops"), ("rack 2", "ops"), ("Rack 10", "net"), ("desk", "")] {
        let managed = ManagedFields {
            owner: owner.to_owned(),
            labels: [("example.org/size".to_owned(), name.len().to_string())].into(),
            ..Default::default()
        };
        let asset = Asset { display_name: name.to_owned(), managed: Some(managed), ..Default::default() };
        assets
            .create_asset(CreateAssetRequest { asset: Some(asset), ..CreateAssetRequest::default() })
            .await
            .unwrap();
    }
    let wrong: &[&str] = &["!"];
    for (filter, order_by, expected) in [
        ("", "", &["Rack 10", "desk", "rack 1", "rack 2"][..]),
        ("rack", "display_name desc", &["rack 2", "rack 1", "Rack 10"]),
        ("rack -managed.owner=ops", "", &["Rack 10"]),
        ("managed.owner=(ops OR net)", "managed_revision,display_name", &["Rack 10", "rack 1", "rack 2"]),
        ("managed.labels.\"example.org/size\">6", "", &["Rack 10"]),
        ("create_time>ago(1h) display_name=\"*k\"", "", &["desk"]),
        ("managed.ownr=ops", "", wrong),
        ("\"rack", "", wrong),
        ("", "owner", wrong),
    ] {
        let request = ListAssetsRequest {
            filter: filter.to_owned(),
            order_by: order_by.to_owned(),
            return_total_size: true,
            ..Default::default()
        };
        let path =
            format!("/v1/assets?filter={}&orderBy={}&returnTotalSize=true", encode(filter), encode(order_by));
        let (status, body) = http_get(system.gateway_address, &path).await.unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        match assets.list_assets(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let by_grpc: Vec<&str> =
                    answer.assets.iter().map(|asset| asset.display_name.as_str()).collect();
                assert_eq!(by_grpc, expected, "{filter}");
                let by_rest: Vec<&str> = body["assets"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(|asset| asset["displayName"].as_str())
                    .collect();
                assert_eq!((status, by_rest), (200, by_grpc), "{filter}: {body}");
                assert_eq!(body["totalSize"], answer.total_size.to_string(), "{filter}");
                assert_eq!(answer.total_size, expected.len() as i64, "{filter}");
            }
            Err(refused) => {
                assert_eq!(
                    (refused.code(), expected),
                    (Code::InvalidArgument, wrong),
                    "{filter}: {refused:?}"
                );
                assert_eq!(
                    (status, body["error"]["message"].as_str()),
                    (400, Some(refused.message())),
                    "{filter}"
                );
            }
        }
    }
    for (filter, group_by) in [
        ("", &["kind"][..]),
        ("rack", &["managed.owner", "state"]),
        ("kind=CUSTOM", &["managed.labels.\"example.org/size\""]),
    ] {
        let request = SummarizeAssetsRequest {
            filter: filter.to_owned(),
            group_by: group_by.iter().map(|field| (*field).to_owned()).collect(),
            ..Default::default()
        };
        let answer = assets.summarize_assets(request).await.unwrap().into_inner();
        let groups: String = group_by.iter().map(|field| format!("&groupBy={}", encode(field))).collect();
        let body = system.get(&format!("/v1/assets:summarize?filter={}{groups}", encode(filter))).await;
        assert_eq!(body["totalCount"], answer.total_count.to_string(), "{filter}");
        let by_rest: Vec<(Vec<&str>, &str)> = body["groups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| {
                let values = group["values"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                (values, group["count"].as_str().unwrap())
            })
            .collect();
        let counts: Vec<String> = answer.groups.iter().map(|group| group.count.to_string()).collect();
        let by_grpc: Vec<(Vec<&str>, &str)> = answer
            .groups
            .iter()
            .zip(&counts)
            .map(|(group, count)| (group.values.iter().map(String::as_str).collect(), count.as_str()))
            .collect();
        assert_eq!(by_rest, by_grpc, "{filter}");
    }
}
