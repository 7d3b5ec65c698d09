//! What differs between two revisions, or two times.

use std::{io::Write, time::Duration};

use contracts::v1::{DiffAssetRequest, DiffAssetsRequest};
use prost_types::{Value, value::Kind};
use serde_json::Value as Json;

use crate::{
    args::DiffArguments,
    commands::{asset_name, asset_service},
    failure::Failure,
    gateway::Gateway,
    output::Output,
};

/// Longest silence. A page of what may differ is compared in well below a second,
/// but all that did not change lies between two pages.
const SILENCE: Duration = Duration::from_secs(120);

/// Shows the fields of one asset that differ, or the assets that do.
///
/// # Errors
/// Those of the call, and of writing.
pub async fn diff<W: Write>(
    arguments: &DiffArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    match &arguments.asset {
        Some(asset) => one(arguments, asset, gateway, output).await,
        None => all(arguments, gateway, output).await,
    }
}

async fn one<W: Write>(
    arguments: &DiffArguments,
    asset: &str,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let request = DiffAssetRequest {
        name: asset_name(asset),
        base_revision: arguments.base_revision.unwrap_or_default(),
        revision: arguments.revision.unwrap_or_default(),
        base_read_time: arguments.since,
        read_time: arguments.until,
    };
    let answer = gateway
        .call(request, async |channel, request| asset_service(channel).diff_asset(request).await)
        .await?;
    output.messages("FieldDifference", &answer.differences)
}

async fn all<W: Write>(
    arguments: &DiffArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let mut request = DiffAssetsRequest {
        base_read_time: arguments.since,
        read_time: arguments.until,
        filter: arguments.filter.clone(),
        resume_token: String::new(),
    };
    loop {
        let mut answers = gateway
            .open(request.clone(), async |channel, request| asset_service(channel).diff_assets(request).await)
            .await?;
        let cut = loop {
            match answers.next(SILENCE).await {
                Ok(Some(answer)) => {
                    output.messages("AssetDifference", &answer.differences)?;
                    if answer.done {
                        return Ok(());
                    }
                    request.resume_token = answer.resume_token;
                }
                Ok(None) => break answers.cut(),
                Err(failure) => break failure,
            }
        };
        // What came so far does not come again.
        if !cut.is_transient() || request.resume_token.is_empty() {
            return Err(cut);
        }
        let _ = writeln!(std::io::stderr(), "{cut}; going on");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Compact, but for texts, which stand as they are.
pub fn text(value: Option<&Value>) -> String {
    match value.map(json) {
        None => String::new(),
        Some(Json::String(text)) => text,
        Some(json) => json.to_string(),
    }
}

fn json(value: &Value) -> Json {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => (*value).into(),
        Some(Kind::NumberValue(number)) => (*number).into(),
        Some(Kind::StringValue(text)) => text.as_str().into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(json).collect(),
        Some(Kind::StructValue(fields)) => {
            fields.fields.iter().map(|(name, value)| (name.clone(), json(value))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::{ListValue, Struct};

    #[test]
    fn values_are_shown_short() {
        let value = |kind| Value { kind: Some(kind) };
        let size = value(Kind::StructValue(Struct {
            fields: [("size".to_owned(), value(Kind::NumberValue(1.5)))].into(),
        }));
        let list = ListValue { values: vec![size, value(Kind::BoolValue(true))] };
        for (value, shown) in [
            (value(Kind::StringValue("a b".to_owned())), "a b"),
            (value(Kind::ListValue(list)), r#"[{"size":1.5},true]"#),
        ] {
            assert_eq!(text(Some(&value)), shown);
        }
        assert_eq!(text(None), "");
    }
}
