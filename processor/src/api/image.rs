//! ImageService: packages in container images.

use contracts::v1::{
    AssetKind, ImagePackage, ListImagePackagesRequest, ListImagePackagesResponse, PackageDetails,
    SearchAffectedPackagesRequest, SearchAffectedPackagesResponse, SearchImagePackagesRequest,
    SearchImagePackagesResponse, image_service_server::ImageService,
};
use kit::{
    identity::Collection,
    status::{invalid_field, precondition},
};
use tonic::{Request, Response, Status};

use super::{Api, asset::missing, convert::timestamp, errors, request, task::in_task};
use crate::{
    domain::{image::image_uid, page_token::TokenError},
    store::{
        asset,
        image::{self, FoundRow, ListRow, PackageRow, Place},
    },
};

pub(super) fn details(row: PackageRow) -> PackageDetails {
    PackageDetails {
        package: row.package,
        version: row.version,
        architecture: row.architecture,
        manager: row.manager,
        source: row.source,
        source_version: row.source_version,
        maintainer: row.maintainer,
        section: row.section,
        installed_size_bytes: u64::try_from(row.installed_size_bytes).unwrap_or(0),
        status: row.status,
        summary: row.summary,
        license: row.license,
        homepage: row.homepage,
    }
}

fn found(row: FoundRow) -> ImagePackage {
    ImagePackage {
        image_digest: row.digest,
        source: row.read_from.into(),
        active_nodes: row.active_nodes,
        package: Some(details(row.package)),
    }
}

/// List, part and place out of a page token.
fn place(after: Option<Vec<String>>) -> Result<Option<Place>, Status> {
    let Some(after) = after else { return Ok(None) };
    let numbers: Option<Place> = match after.as_slice() {
        [content, part, place] => {
            content.parse().ok().zip(part.parse().ok().zip(place.parse().ok())).map(|(c, (p, n))| (c, p, n))
        }
        _ => None,
    };
    numbers.map(Some).ok_or_else(|| errors::token(TokenError::Foreign))
}

/// FAILED_PRECONDITION unless the list is complete.
fn whole(
    read: Option<(ListRow, Vec<PackageRow>)>,
    parent: &str,
) -> Result<(ListRow, Vec<PackageRow>), Status> {
    match read {
        None => {
            let text = "the packages in this image were not read yet; an agent reads them that may see the \
                 files of images or of containers";
            Err(precondition("CONTENTS_NOT_READ", parent, text))
        }
        Some((list, _)) if list.complete_time.is_none() => {
            let (here, parts) = (list.received_parts, list.parts);
            let text = format!(
                "{here} of {parts} parts of the list of packages in this image are here; try again later"
            );
            Err(precondition("CONTENTS_INCOMPLETE", parent, text))
        }
        Some(complete) => Ok(complete),
    }
}

#[tonic::async_trait]
impl ImageService for Api {
    async fn list_image_packages(
        &self,
        request: Request<ListImagePackagesRequest>,
    ) -> Result<Response<ListImagePackagesResponse>, Status> {
        let request = request.into_inner();
        let parent = request.parent;
        let uid = request::name("parent", &parent, Collection::Assets)?;
        let page = request::page_size(request.page_size)?;
        let question = ["imagePackages", &parent];
        let after = place(self.tokens.open(&request.page_token, &question, 3).map_err(errors::token)?)?;

        let (api, name) = (self.clone(), parent.clone());
        let read = in_task(async move {
            let mut connection = api.connection().await?;
            let query = |error| errors::query(&error);
            let (image, ..) =
                asset::get(&mut connection, uid).await.map_err(query)?.ok_or_else(|| missing(uid))?;
            if i32::from(image.kind) != AssetKind::ContainerImage as i32 {
                let text = "is no container image; only these have packages in them";
                return Err(precondition("NOT_AN_IMAGE", &name, text));
            }
            let read =
                image::page(&mut connection, image_uid(&image.natural_key), after, request::limit(page));
            let (list, rows) = whole(read.await.map_err(query)?, &name)?;
            if after.is_some_and(|(content, ..)| content != list.id) {
                let text = "the list of packages was replaced by a better one; read it from its beginning";
                return Err(errors::aborted("CONTENTS_REPLACED", text));
            }
            Ok((image.natural_key, list, rows))
        });
        let (image_digest, list, mut rows) = read.await?;
        let more = rows.len() > page;
        rows.truncate(page);
        let next_page_token = match rows.last().filter(|_| more) {
            Some(last) => {
                let place = vec![list.id.to_string(), last.part.to_string(), last.place.to_string()];
                self.tokens.issue(&question, place)
            }
            None => String::new(),
        };
        Ok(Response::new(ListImagePackagesResponse {
            packages: rows.into_iter().map(details).collect(),
            next_page_token,
            total_size: list.packages,
            image_digest,
            source: list.source.into(),
            complete_time: list.complete_time.map(timestamp),
        }))
    }

    async fn search_image_packages(
        &self,
        request: Request<SearchImagePackagesRequest>,
    ) -> Result<Response<SearchImagePackagesResponse>, Status> {
        let request = request.into_inner();
        let package = request.package;
        if package.is_empty() {
            return Err(invalid_field("package", "REQUIRED", "is required: the exact name of a package"));
        }
        if package.contains('\0') {
            return Err(invalid_field("package", "INVALID_FIELD", "has a NUL character"));
        }
        let page = request::page_size(request.page_size)?;
        let question = ["searchImagePackages", &package];
        let after = place(self.tokens.open(&request.page_token, &question, 3).map_err(errors::token)?)?;

        let (api, name) = (self.clone(), package.clone());
        let rows = in_task(async move {
            let mut connection = api.connection().await?;
            image::search(&mut connection, &name, after, request::limit(page))
                .await
                .map_err(|error| errors::query(&error))
        });
        let mut rows = rows.await?;
        let more = rows.len() > page;
        rows.truncate(page);
        let next_page_token = match rows.last().filter(|_| more) {
            Some(last) => {
                let (content, package) = (last.content_id, &last.package);
                let place = vec![content.to_string(), package.part.to_string(), package.place.to_string()];
                self.tokens.issue(&question, place)
            }
            None => String::new(),
        };
        let image_packages = rows.into_iter().map(found).collect();
        Ok(Response::new(SearchImagePackagesResponse { image_packages, next_page_token }))
    }

    async fn search_affected_packages(
        &self,
        request: Request<SearchAffectedPackagesRequest>,
    ) -> Result<Response<SearchAffectedPackagesResponse>, Status> {
        self.affected(request).await.map(Response::new)
    }
}
