//! EventService.

use contracts::v1::{
    ListEventsRequest, ListEventsResponse, WatchEventsRequest, event_service_server::EventService,
};
use kit::identity::Collection;
use tonic::{Request, Response, Status};

use super::{Api, convert, errors, request, task::in_task};
use crate::{domain::filter::Schema, store::event};

impl Api {
    pub(super) fn event_schema(&self) -> Schema {
        Schema {
            message: self.descriptors.message("Event").expect("the contracts have Event"),
            names: &[
                ("name", Collection::Events),
                ("asset", Collection::Assets),
                ("node", Collection::Nodes),
            ],
            unsearchable: &["changed_fields"],
        }
    }
}

#[tonic::async_trait]
impl EventService for Api {
    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let request = request.into_inner();
        let page = request::page_size(request.page_size)?;
        let condition = request::condition(&request.filter, &self.event_schema(), &event::COLUMNS)?;
        let question = ["events", &request.filter];
        let before = self.tokens.open(&request.page_token, &question, 2).map_err(errors::token)?;
        let before = request::time_and_id(before)?;

        let api = self.clone();
        let rows = in_task(async move {
            let mut connection = api.connection().await?;
            event::list(&mut connection, condition, before, request::limit(page))
                .await
                .map_err(|error| errors::query(&error))
        });
        let mut rows = rows.await?;
        let more = rows.len() > page;
        rows.truncate(page);
        let next_page_token = match rows.last().filter(|_| more) {
            Some((last, _)) => {
                let place = vec![last.record_time.timestamp_micros().to_string(), last.id.to_string()];
                self.tokens.issue(&question, place)
            }
            None => String::new(),
        };
        let events = rows.into_iter().map(convert::event).collect();
        Ok(Response::new(ListEventsResponse { events, next_page_token }))
    }

    type WatchEventsStream = super::watch::EventAnswers;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        self.watch_events_from(request).await.map(Response::new)
    }
}
