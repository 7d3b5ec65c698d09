//! What relates to an asset, and where packages of certain versions are.

use std::{io::Write, ops::ControlFlow};

use contracts::v1::{ListRelatedAssetsRequest, SearchAffectedPackagesRequest};

use crate::{
    args::{AffectedArguments, RelatedArguments},
    commands::{asset_name, asset_service, image_service},
    failure::Failure,
    gateway::{Gateway, pages},
    output::Output,
};

/// Lists related assets; a walk that was cut is told on stderr.
///
/// # Errors
/// Those of the call and of the output.
pub async fn related<W: Write>(
    arguments: &RelatedArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let mut truncated = false;
    let fetch = async |page_size, page_token| {
        let request = ListRelatedAssetsRequest {
            parent: asset_name(&arguments.name),
            direction: arguments.direction.into(),
            types: arguments.types.iter().map(|relation| *relation as i32).collect(),
            kinds: arguments.kinds.iter().map(|kind| *kind as i32).collect(),
            depth: arguments.depth,
            page_size,
            page_token,
        };
        let page = gateway
            .call(request, async |channel, request| asset_service(channel).list_related_assets(request).await)
            .await?;
        truncated |= page.truncated;
        Ok((page.related_assets, page.next_page_token))
    };
    let show = |page: Vec<_>| output.messages("RelatedAsset", &page).map(ControlFlow::Continue);
    pages(arguments.limit, fetch, show).await?;
    if truncated {
        // Nobody is there to read it, if stderr is gone.
        let _ = writeln!(std::io::stderr(), "more is related than a walk finds; narrow it");
    }
    Ok(())
}

/// Lists affected packages.
///
/// # Errors
/// Those of the call and of the output.
pub async fn affected<W: Write>(
    arguments: &AffectedArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let fetch = async |page_size, page_token| {
        let request = SearchAffectedPackagesRequest {
            package: arguments.package.clone(),
            from_version: arguments.from.clone(),
            below_version: arguments.below.clone(),
            through_version: arguments.through.clone(),
            exact_version: arguments.exact.clone(),
            version_order: arguments.order.map_or(0, |order| order as i32),
            places: arguments.places.iter().map(|place| *place as i32).collect(),
            page_size,
            page_token,
        };
        let page = gateway
            .call(request, async |channel, request| {
                image_service(channel).search_affected_packages(request).await
            })
            .await?;
        Ok((page.affected_packages, page.next_page_token))
    };
    let show = |page: Vec<_>| output.messages("AffectedPackage", &page).map(ControlFlow::Continue);
    pages(arguments.limit, fetch, show).await
}
