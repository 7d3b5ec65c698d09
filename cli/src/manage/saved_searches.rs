//! `assettrack saved-searches`.

use std::{io::Write, ops::ControlFlow};

use contracts::v1::{
    CreateSavedSearchRequest, DeleteSavedSearchRequest, GetSavedSearchRequest, ListSavedSearchesRequest,
    SavedSearch, saved_search_service_client::SavedSearchServiceClient,
};

use super::{args::SavedSearchesCommand, request_id};
use crate::{
    args::AssetsArguments,
    cell::Clock,
    commands::{assets, show},
    failure::Failure,
    gateway::{Gateway, pages},
    output::{Column, Output, Row},
};

impl Row for SavedSearch {
    fn columns() -> Vec<Column<Self>> {
        fn column(
            name: &'static str,
            in_table: bool,
            text: fn(&SavedSearch, Clock) -> String,
        ) -> Column<SavedSearch> {
            Column { name, in_table, text }
        }
        vec![
            column("name", true, |search, _| search.name.clone()),
            column("title", true, |search, _| search.title.clone()),
            column("owner", true, |search, _| search.owner.clone()),
            column("filter", true, |search, _| search.filter.clone()),
            column("order_by", false, |search, _| search.order_by.clone()),
            column("columns", false, |search, _| search.columns.join(" ")),
            column("create_time", false, |search, clock| clock.show(search.create_time.as_ref())),
            column("update_time", true, |search, clock| clock.show(search.update_time.as_ref())),
        ]
    }
}

/// Does what the command says.
///
/// # Errors
/// See [`Failure`].
pub async fn run<W: Write>(
    command: &SavedSearchesCommand,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    match command {
        SavedSearchesCommand::List => list(gateway, output).await,
        SavedSearchesCommand::Save { title, filter, order_by, columns, owner } => {
            let search = SavedSearch {
                title: title.clone(),
                filter: filter.clone(),
                order_by: order_by.clone(),
                columns: columns.clone(),
                owner: owner.clone(),
                ..SavedSearch::default()
            };
            let request = CreateSavedSearchRequest {
                saved_search: Some(search),
                request_id: request_id(),
                validate_only: false,
            };
            let kept = gateway
                .call(request, async |channel, request| {
                    SavedSearchServiceClient::new(channel).create_saved_search(request).await
                })
                .await?;
            show("SavedSearch", &kept, output)
        }
        SavedSearchesCommand::Run { name } => {
            let search = get(name, gateway).await?;
            let arguments = AssetsArguments {
                filter: search.filter,
                order_by: search.order_by,
                limit: None,
                show_deleted: false,
                watch: false,
                as_of: None,
            };
            assets(&arguments, gateway, output).await
        }
        SavedSearchesCommand::Delete { name } => {
            let request = DeleteSavedSearchRequest {
                name: search_name(name),
                request_id: request_id(),
                ..DeleteSavedSearchRequest::default()
            };
            let gone = gateway
                .call(request, async |channel, request| {
                    SavedSearchServiceClient::new(channel).delete_saved_search(request).await
                })
                .await?;
            show("SavedSearch", &gone, output)
        }
    }
}

/// `savedSearches/{uuid}` of what may be the UUID alone.
fn search_name(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("savedSearches/{name}") }
}

async fn get(name: &str, gateway: &Gateway) -> Result<SavedSearch, Failure> {
    let request = GetSavedSearchRequest { name: search_name(name) };
    gateway
        .call(request, async |channel, request| {
            SavedSearchServiceClient::new(channel).get_saved_search(request).await
        })
        .await
}

async fn list<W: Write>(gateway: &Gateway, output: &mut Output<W>) -> Result<(), Failure> {
    let fetch = async |page_size, page_token| {
        let request = ListSavedSearchesRequest { page_size, page_token };
        let page = gateway
            .call(request, async |channel, request| {
                SavedSearchServiceClient::new(channel).list_saved_searches(request).await
            })
            .await?;
        Ok((page.saved_searches, page.next_page_token))
    };
    pages(None, fetch, |page| output.messages("SavedSearch", &page).map(ControlFlow::Continue)).await
}
