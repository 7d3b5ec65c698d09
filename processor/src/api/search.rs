//! ListAssets.

use chrono::Utc;
use contracts::v1::{ListAssetsRequest, ListAssetsResponse};
use kit::status::{invalid_field, precondition};
use tonic::Status;

use super::{Api, convert, errors, request, task::in_task};
use crate::{
    domain::{
        filter,
        order::{Order, OrderError},
        page_token::TokenError,
    },
    store::{
        asset::{self, Source},
        filter_sql::{compile, is_indexed},
        listing::{self, Listing, MAX_SORTED, Page},
        summary::COUNTED_FIELDS,
        total::{Total, total},
    },
};

impl Api {
    pub(super) async fn list(&self, request: ListAssetsRequest) -> Result<ListAssetsResponse, Status> {
        let page = request::page_size(request.page_size)?;
        let order = Order::read(&request.order_by).map_err(|error| order_error(&error))?;
        let predicate = filter::read(&request.filter, &self.asset_schema(), Utc::now())
            .map_err(|error| errors::filter(&error))?;
        let deleted = if request.show_deleted { "deleted" } else { "" };
        let ordered = order.to_string();
        let question = ["assets", &request.filter, deleted, &ordered];
        let after =
            self.tokens.open(&request.page_token, &question, order.keys().len()).map_err(errors::token)?;
        if after.as_ref().is_some_and(|after| !listing::is_place(&order, after)) {
            return Err(errors::token(TokenError::Foreign));
        }
        let by_kind = predicate.as_ref().is_none_or(|predicate| predicate.asks_only(&COUNTED_FIELDS));
        let listing = Listing {
            source: Source::Now,
            searched: predicate.as_ref().is_some_and(|predicate| is_indexed(predicate, &asset::COLUMNS)),
            condition: predicate.map(|predicate| compile(&predicate, &asset::COLUMNS)),
            show_deleted: request.show_deleted,
            order: order.clone(),
            after,
            limit: request::limit(page),
        };

        let (api, with_total) = (self.clone(), request.return_total_size);
        let found = in_task(async move {
            let mut connection = api.connection().await?;
            let query = |error| errors::query(&error);
            let found = listing::list(&mut connection, &listing).await.map_err(query)?;
            let total = match with_total {
                true => Some(total(&mut connection, &listing, by_kind).await.map_err(query)?),
                false => None,
            };
            Ok::<_, Status>((found, total))
        });
        let (found, total) = found.await?;
        let Page::Rows(mut rows) = found else { return Err(too_many(&request.order_by)) };
        let more = rows.len() > page;
        rows.truncate(page);
        let next_page_token = match rows.last().filter(|_| more) {
            Some(last) => self.tokens.issue(&question, listing::place(&order, last)),
            None => String::new(),
        };
        let Total { count, estimated } = total.unwrap_or(Total { count: 0, estimated: false });
        Ok(ListAssetsResponse {
            assets: rows.into_iter().map(convert::asset).collect(),
            next_page_token,
            total_size: count,
            total_size_estimated: estimated,
        })
    }
}

fn order_error(cause: &OrderError) -> Status {
    invalid_field("order_by", "INVALID_ORDER", cause.to_string())
}

fn too_many(order_by: &str) -> Status {
    let text = format!(
        "the filter leaves more than {MAX_SORTED} assets, too many to order by `{order_by}`; narrow it, or order \
         by `display_name`, `name` or `kind,display_name`"
    );
    precondition("TOO_MANY_TO_ORDER", "order_by", text)
}
