//! Searches that people keep.

use contracts::v1::{
    CreateSavedSearchRequest, DeleteSavedSearchRequest, GetSavedSearchRequest, ListSavedSearchesRequest,
    SavedSearch, UpdateSavedSearchRequest,
};
use tonic::Response;

use super::*;

fn search(title: &str) -> SavedSearch {
    SavedSearch {
        title: title.to_owned(),
        filter: "kind=PACKAGE managed.labels.env=prod".to_owned(),
        order_by: "update_time desc, display_name".to_owned(),
        columns: vec!["display_name".to_owned(), "details.package.version".to_owned()],
        owner: "ops".to_owned(),
        ..SavedSearch::default()
    }
}

async fn keep(running: &Running, search: SavedSearch) -> Result<SavedSearch, Status> {
    let request = CreateSavedSearchRequest { saved_search: Some(search), ..Default::default() };
    searches(running).create_saved_search(request).await.map(Response::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_are_kept_edited_listed_and_deleted() {
    let running = Running::start().await;
    let kept = keep(&running, search("Packages")).await.unwrap();
    let get = GetSavedSearchRequest { name: kept.name.clone() };
    assert_eq!(searches(&running).get_saved_search(get.clone()).await.unwrap().into_inner(), kept);
    let anonymous = keep(&running, SavedSearch { owner: String::new(), ..search("Mine") }).await.unwrap();
    assert_eq!(anonymous.owner, "anonymous");

    let edit = SavedSearch { columns: Vec::new(), title: "All".to_owned(), ..kept.clone() };
    let update_mask = mask(&["columns", "title"]);
    let request = UpdateSavedSearchRequest { saved_search: Some(edit), update_mask, ..Default::default() };
    let edited = searches(&running).update_saved_search(request.clone()).await.unwrap().into_inner();
    assert_eq!(
        (edited.title.as_str(), edited.columns.len(), edited.filter.as_str()),
        ("All", 0, kept.filter.as_str())
    );
    let stale = searches(&running).update_saved_search(request).await.unwrap_err();
    assert_eq!(about(&stale, Code::Aborted, "ETAG_MISMATCH")["current"], edited.etag);

    keep(&running, search("All")).await.unwrap();
    let mut request = ListSavedSearchesRequest { page_size: 2, ..Default::default() };
    let first = searches(&running).list_saved_searches(request.clone()).await.unwrap().into_inner();
    request.page_token = first.next_page_token;
    let rest = searches(&running).list_saved_searches(request).await.unwrap().into_inner();
    let titles: Vec<String> =
        first.saved_searches.into_iter().chain(rest.saved_searches).map(|search| search.title).collect();
    assert_eq!((titles.join(" "), rest.next_page_token.as_str()), ("All All Mine".to_owned(), ""));

    let delete =
        DeleteSavedSearchRequest { name: kept.name, etag: edited.etag.clone(), ..Default::default() };
    assert_eq!(searches(&running).delete_saved_search(delete).await.unwrap().into_inner(), edited);
    assert_eq!(searches(&running).get_saved_search(get).await.unwrap_err().code(), Code::NotFound);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_that_could_not_be_run_is_refused_by_field() {
    let running = Running::start().await;
    let columns = |columns: &[&str]| columns.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    for (wrong, field) in [
        (SavedSearch { title: String::new(), ..search("x") }, "title"),
        (SavedSearch { title: "x".repeat(257), ..search("x") }, "title"),
        (SavedSearch { filter: "kindd=PACKAGE".to_owned(), ..search("x") }, "filter"),
        (SavedSearch { order_by: "display_name up".to_owned(), ..search("x") }, "order_by"),
        (SavedSearch { order_by: "nothing".to_owned(), ..search("x") }, "order_by"),
        (SavedSearch { order_by: "kind,".to_owned(), ..search("x") }, "order_by"),
        (SavedSearch { columns: columns(&["kind", "kind"]), ..search("x") }, "columns[1]"),
        (SavedSearch { columns: columns(&["kind=x OR kind"]), ..search("x") }, "columns[0]"),
        (SavedSearch { columns: columns(&["details.nothing"]), ..search("x") }, "columns[0]"),
        (SavedSearch { columns: vec!["kind".to_owned(); 51], ..search("x") }, "columns"),
        (SavedSearch { owner: " x".to_owned(), ..search("x") }, "owner"),
    ] {
        let refused = keep(&running, wrong).await.unwrap_err();
        assert_eq!(at_fault(&refused), [format!("saved_search.{field}")]);
    }
    running.stop().await;
}
