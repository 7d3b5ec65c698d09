//! `assettrack custom-fields`.

use std::{io::Write, ops::ControlFlow};

use contracts::v1::{
    CreateCustomFieldRequest, CustomField, CustomFieldType, DeleteCustomFieldRequest,
    ListCustomFieldsRequest, custom_field_service_client::CustomFieldServiceClient,
};

use super::{
    args::{CustomFieldsCommand, DefineArguments},
    request_id,
};
use crate::{
    cell::{Clock, word},
    columns,
    commands::show,
    failure::Failure,
    gateway::{Gateway, pages},
    output::{Column, Output, Row},
};

fn field_type(number: i32) -> String {
    let found = CustomFieldType::try_from(number).ok();
    word(found.map(|found| found.as_str_name()), "CUSTOM_FIELD_TYPE_", number)
}

impl Row for CustomField {
    fn columns() -> Vec<Column<Self>> {
        fn column(
            name: &'static str,
            in_table: bool,
            text: fn(&CustomField, Clock) -> String,
        ) -> Column<CustomField> {
            Column { name, in_table, text }
        }
        vec![
            column("name", true, |field, _| field.name.clone()),
            column("type", true, |field, _| field_type(field.r#type)),
            column("required", true, |field, _| if field.required { "yes" } else { "" }.to_owned()),
            column("kinds", true, |field, _| {
                field.kinds.iter().map(|kind| columns::kind(*kind)).collect::<Vec<_>>().join(" ")
            }),
            column("title", true, |field, _| field.title.clone()),
            column("description", false, |field, _| field.description.clone()),
            column("pattern", false, |field, _| field.pattern.clone()),
            column("values", false, |field, _| field.values.join(", ")),
            column("update_time", true, |field, clock| clock.show(field.update_time.as_ref())),
        ]
    }
}

/// Does what the command says.
///
/// # Errors
/// See [`Failure`].
pub async fn run<W: Write>(
    command: &CustomFieldsCommand,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    match command {
        CustomFieldsCommand::List => list(gateway, output).await,
        CustomFieldsCommand::Define(arguments) => {
            let request = CreateCustomFieldRequest {
                custom_field_id: arguments.key.clone(),
                custom_field: Some(definition(arguments)),
                request_id: request_id(),
                validate_only: false,
            };
            let made = gateway
                .call(request, async |channel, request| {
                    CustomFieldServiceClient::new(channel).create_custom_field(request).await
                })
                .await?;
            show("CustomField", &made, output)
        }
        CustomFieldsCommand::Delete { name, force } => {
            let name = if name.contains('/') { name.clone() } else { format!("customFields/{name}") };
            let request = DeleteCustomFieldRequest {
                name,
                force: *force,
                request_id: request_id(),
                ..DeleteCustomFieldRequest::default()
            };
            let gone = gateway
                .call(request, async |channel, request| {
                    CustomFieldServiceClient::new(channel).delete_custom_field(request).await
                })
                .await?;
            show("CustomField", &gone, output)
        }
    }
}

fn definition(arguments: &DefineArguments) -> CustomField {
    CustomField {
        title: arguments.title.clone(),
        description: arguments.description.clone(),
        r#type: arguments.field_type.into(),
        kinds: arguments.kinds.iter().map(|kind| *kind as i32).collect(),
        required: arguments.required,
        pattern: arguments.pattern.clone(),
        min_value: arguments.min_value,
        max_value: arguments.max_value,
        min_length: arguments.min_length,
        max_length: arguments.max_length,
        values: arguments.values.clone(),
        ..CustomField::default()
    }
}

async fn list<W: Write>(gateway: &Gateway, output: &mut Output<W>) -> Result<(), Failure> {
    let fetch = async |page_size, page_token| {
        let request = ListCustomFieldsRequest { page_size, page_token };
        let page = gateway
            .call(request, async |channel, request| {
                CustomFieldServiceClient::new(channel).list_custom_fields(request).await
            })
            .await?;
        Ok((page.custom_fields, page.next_page_token))
    };
    pages(None, fetch, |page| output.messages("CustomField", &page).map(ControlFlow::Continue)).await
}
