//! One function a command.

use std::{io::Write, ops::ControlFlow};

use contracts::v1::{
    GetAssetRequest, GetOverviewRequest, ListAssetRevisionsRequest, ListAssetsRequest,
    ListImagePackagesRequest, ListNodesRequest, RequestScanRequest, RetireNodeRequest,
    SearchImagePackagesRequest, asset_service_client::AssetServiceClient,
    image_service_client::ImageServiceClient, node_service_client::NodeServiceClient,
    overview_service_client::OverviewServiceClient,
};
use tonic::transport::Channel;

use crate::{
    args::{
        AssetArguments, AssetsArguments, Command, EventsArguments, ImagePackagesArguments,
        ImageSearchArguments, RetireArguments, ScanArguments,
    },
    dead_letters, diff,
    failure::Failure,
    fields, follow,
    gateway::{Gateway, MAX_PAGE_BYTES, pages},
    manage,
    output::Output,
    relations, verify,
};

/// Does what the command says.
///
/// # Errors
/// See [`Failure`].
pub async fn run<W: Write>(
    command: &Command,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    match command {
        Command::Assets(arguments) => assets(arguments, gateway, output).await,
        Command::Asset(arguments) if arguments.revisions => revisions(arguments, gateway, output).await,
        Command::Asset(arguments) => asset(arguments, gateway, output).await,
        Command::Diff(arguments) => diff::diff(arguments, gateway, output).await,
        Command::Related(arguments) => relations::related(arguments, gateway, output).await,
        Command::Set(arguments) => manage::set(arguments, gateway, output).await,
        Command::Undelete(arguments) => manage::undelete(arguments, gateway, output).await,
        Command::SavedSearches(command) => manage::saved_searches::run(command, gateway, output).await,
        Command::CustomFields(command) => manage::custom_fields::run(command, gateway, output).await,
        Command::Nodes => nodes(gateway, output).await,
        Command::Scan(arguments) => scan(arguments, gateway, output).await,
        Command::Retire(arguments) => retire(arguments, gateway, output).await,
        Command::Events(arguments) => events(arguments, gateway, output).await,
        Command::ImagePackages(arguments) => image_packages(arguments, gateway, output).await,
        Command::ImageSearch(arguments) => image_search(arguments, gateway, output).await,
        Command::Affected(arguments) => relations::affected(arguments, gateway, output).await,
        Command::Overview => overview(gateway, output).await,
        Command::DeadLetters(command) => dead_letters::run(command, gateway, output).await,
        // Told apart in `main`: there is no gateway to it.
        Command::Simulate(_) => Ok(()),
        Command::Verify(arguments) => verify::verify(arguments, gateway, output).await,
    }
}

/// The service of assets.
/// Reads pages of any size.
/// Client of the assets' service.
pub fn asset_service(channel: Channel) -> AssetServiceClient<Channel> {
    AssetServiceClient::new(channel).max_decoding_message_size(MAX_PAGE_BYTES)
}

/// Lists assets.
pub async fn assets<W: Write>(
    arguments: &AssetsArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    if arguments.watch {
        let AssetsArguments { filter, show_deleted, .. } = arguments;
        let show = |changes: Vec<_>| output.messages("AssetChange", &changes);
        return follow::watch(gateway, filter, *show_deleted, show, still_trying).await;
    }
    let fetch = async |page_size, page_token| {
        let AssetsArguments { filter, order_by, show_deleted, .. } = arguments;
        let request = ListAssetsRequest {
            page_size,
            page_token,
            filter: filter.clone(),
            order_by: order_by.clone(),
            show_deleted: *show_deleted,
            read_time: arguments.as_of,
            ..Default::default()
        };
        let page = gateway
            .call(request, async |channel, request| asset_service(channel).list_assets(request).await)
            .await?;
        Ok((page.assets, page.next_page_token))
    };
    let show = |page: Vec<_>| output.messages("Asset", &page).map(ControlFlow::Continue);
    pages(arguments.limit, fetch, show).await
}

/// `assets/{uuid}` of what may be the UUID alone.
pub fn asset_name(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("assets/{name}") }
}

/// `nodes/{uuid}` of what may be the UUID alone.
fn node_name(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("nodes/{name}") }
}

/// One message whole.
pub fn show<W: Write>(
    name: &str,
    message: &impl prost::Message,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    if output.is_json() {
        return output.message(name, message);
    }
    let fields = fields::of_message(&output.reflect(name, message)?, output.clock());
    output.rows(&fields)
}

async fn asset<W: Write>(
    arguments: &AssetArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let request = GetAssetRequest { name: asset_name(&arguments.name), read_time: arguments.as_of };
    let asset = gateway
        .call(request, async |channel, request| asset_service(channel).get_asset(request).await)
        .await?;
    show("Asset", &asset, output)
}

async fn revisions<W: Write>(
    arguments: &AssetArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let fetch = async |page_size, page_token| {
        let parent = asset_name(&arguments.name);
        let request = ListAssetRevisionsRequest { parent, page_size, page_token };
        let page = gateway
            .call(request, async |channel, request| {
                asset_service(channel).list_asset_revisions(request).await
            })
            .await?;
        Ok((page.revisions, page.next_page_token))
    };
    let show = |page: Vec<_>| output.messages("AssetRevision", &page).map(ControlFlow::Continue);
    pages(None, fetch, show).await
}

async fn nodes<W: Write>(gateway: &Gateway, output: &mut Output<W>) -> Result<(), Failure> {
    let fetch = async |page_size, page_token| {
        let request = ListNodesRequest { page_size, page_token };
        let page = gateway
            .call(request, async |channel, request| NodeServiceClient::new(channel).list_nodes(request).await)
            .await?;
        Ok((page.nodes, page.next_page_token))
    };
    pages(None, fetch, |page| output.messages("Node", &page).map(ControlFlow::Continue)).await
}

async fn scan<W: Write>(
    arguments: &ScanArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let kinds = arguments.kinds.iter().map(|kind| *kind as i32).collect();
    let request = RequestScanRequest { name: node_name(&arguments.name), kinds, resync: arguments.resync };
    let answer = gateway
        .call(request, async |channel, request| NodeServiceClient::new(channel).request_scan(request).await)
        .await?;
    show("RequestScanResponse", &answer, output)
}

async fn retire<W: Write>(
    arguments: &RetireArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let request = RetireNodeRequest { name: node_name(&arguments.name) };
    let node = gateway
        .call(request, async |channel, request| NodeServiceClient::new(channel).retire_node(request).await)
        .await?;
    show("Node", &node, output)
}

fn still_trying(failure: &Failure) {
    let _ = writeln!(std::io::stderr(), "{} (still trying)", failure.line());
}

async fn events<W: Write>(
    arguments: &EventsArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let EventsArguments { filter, limit, follow } = arguments;
    if *follow {
        let show = |events: Vec<_>| output.messages("Event", &events);
        return follow::follow(gateway, filter, *limit, show, still_trying).await;
    }
    follow::list(gateway, filter, *limit, |page| output.messages("Event", &page).map(ControlFlow::Continue))
        .await
}

/// Reads pages of any size.
pub fn image_service(channel: Channel) -> ImageServiceClient<Channel> {
    ImageServiceClient::new(channel).max_decoding_message_size(MAX_PAGE_BYTES)
}

async fn image_packages<W: Write>(
    arguments: &ImagePackagesArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let fetch = async |page_size, page_token| {
        let parent = asset_name(&arguments.name);
        let request = ListImagePackagesRequest { parent, page_size, page_token };
        let page = gateway
            .call(request, async |channel, request| image_service(channel).list_image_packages(request).await)
            .await?;
        Ok((page.packages, page.next_page_token))
    };
    let show = |page: Vec<_>| output.messages("PackageDetails", &page).map(ControlFlow::Continue);
    pages(arguments.limit, fetch, show).await
}

async fn image_search<W: Write>(
    arguments: &ImageSearchArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let fetch = async |page_size, page_token| {
        let package = arguments.package.clone();
        let request = SearchImagePackagesRequest { package, page_size, page_token };
        let page = gateway
            .call(request, async |channel, request| {
                image_service(channel).search_image_packages(request).await
            })
            .await?;
        Ok((page.image_packages, page.next_page_token))
    };
    let show = |page: Vec<_>| output.messages("ImagePackage", &page).map(ControlFlow::Continue);
    pages(arguments.limit, fetch, show).await
}

async fn overview<W: Write>(gateway: &Gateway, output: &mut Output<W>) -> Result<(), Failure> {
    let overview = gateway
        .call(GetOverviewRequest {}, async |channel, request| {
            OverviewServiceClient::new(channel)
                .max_decoding_message_size(MAX_PAGE_BYTES)
                .get_overview(request)
                .await
        })
        .await?;
    if output.is_json() {
        return output.message("Overview", &overview);
    }
    let fields = fields::of_overview(&overview, output.clock());
    output.rows(&fields)
}
