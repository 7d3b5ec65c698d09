//! Custom fields: definitions, values, and what narrows them.

use contracts::v1::{
    AssetKind, BatchUpdateAssetsRequest, CreateCustomFieldRequest, CustomField, CustomFieldType,
    DeleteCustomFieldRequest, GetCustomFieldRequest, ListCustomFieldsRequest, Presence,
    UpdateCustomFieldRequest,
};
use tonic::Response;

use super::*;
use crate::running::{Agent, package};

fn of(field_type: CustomFieldType) -> CustomField {
    CustomField { r#type: field_type.into(), ..CustomField::default() }
}

fn with(key: &str, value: &str) -> ManagedFields {
    let custom_fields = [(key.to_owned(), value.to_owned())].into();
    ManagedFields { custom_fields, ..ManagedFields::default() }
}

async fn define(running: &Running, key: &str, field: CustomField) -> Result<CustomField, Status> {
    let request = CreateCustomFieldRequest {
        custom_field_id: key.to_owned(),
        custom_field: Some(field),
        ..Default::default()
    };
    fields(running).create_custom_field(request).await.map(Response::into_inner)
}

async fn redefine(running: &Running, field: CustomField, paths: &[&str]) -> Result<CustomField, Status> {
    let request = UpdateCustomFieldRequest {
        custom_field: Some(field),
        update_mask: mask(paths),
        ..Default::default()
    };
    fields(running).update_custom_field(request).await.map(Response::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_are_kept_edited_listed_and_deleted() {
    let running = Running::start().await;
    let cost = CustomField { title: "Cost centre".to_owned(), ..of(CustomFieldType::Text) };
    let made = define(&running, "cost_centre", cost.clone()).await.unwrap();
    assert_eq!((made.name.as_str(), made.title.as_str()), ("customFields/cost_centre", "Cost centre"));
    let again = define(&running, "cost_centre", cost).await.unwrap_err();
    about(&again, Code::AlreadyExists, "EXISTS");
    for (key, field, at) in [
        ("Cost", of(CustomFieldType::Text), "custom_field_id"),
        ("other", CustomField::default(), "custom_field.type"),
        (
            "other",
            CustomField { pattern: "(".to_owned(), ..of(CustomFieldType::Text) },
            "custom_field.pattern",
        ),
        ("other", of(CustomFieldType::Enum), "custom_field.values"),
    ] {
        assert_eq!(at_fault(&define(&running, key, field).await.unwrap_err()), [at]);
    }
    let edit = CustomField { pattern: "[0-9]+".to_owned(), ..made.clone() };
    let edited = redefine(&running, edit.clone(), &["pattern"]).await.unwrap();
    assert_ne!(edited.etag, made.etag);
    let stale = redefine(&running, edit, &["pattern"]).await.unwrap_err();
    assert_eq!(about(&stale, Code::Aborted, "ETAG_MISMATCH")["current"], edited.etag);
    let odd = redefine(&running, CustomField { etag: String::new(), ..made.clone() }, &["key"]).await;
    assert_eq!(at_fault(&odd.unwrap_err()), ["update_mask"]);

    for key in ["b_field", "a_field"] {
        define(&running, key, of(CustomFieldType::Bool)).await.unwrap();
    }
    let mut request = ListCustomFieldsRequest { page_size: 2, ..Default::default() };
    let first = fields(&running).list_custom_fields(request.clone()).await.unwrap().into_inner();
    request.page_token = first.next_page_token;
    let rest = fields(&running).list_custom_fields(request).await.unwrap().into_inner();
    let names: Vec<String> =
        first.custom_fields.into_iter().chain(rest.custom_fields).map(|field| field.name).collect();
    assert_eq!(names, ["customFields/a_field", "customFields/b_field", "customFields/cost_centre"]);
    let name = made.name.clone();
    let delete = DeleteCustomFieldRequest { name: name.clone(), ..Default::default() };
    assert_eq!(fields(&running).delete_custom_field(delete).await.unwrap().into_inner(), edited);
    let gone = fields(&running).get_custom_field(GetCustomFieldRequest { name }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_validated_wherever_they_are_written() {
    let running = Running::start().await;
    let units = CustomField {
        min_value: Some(1.0),
        kinds: vec![AssetKind::Custom.into()],
        ..of(CustomFieldType::Number)
    };
    define(&running, "units", units).await.unwrap();
    let rack = created(&running, "rack", with("units", "42")).await;
    assert_eq!(running.list("managed.custom_fields.units=42").await, std::slice::from_ref(&rack));
    let at = "asset.managed.custom_fields.units";
    let mut assets = running.assets();
    for value in ["0", "many", ""] {
        let refused = assets.create_asset(create("x", with("units", value))).await.unwrap_err();
        assert_eq!(at_fault(&refused), [at], "{value}");
        let refused = assets.update_asset(update(&rack, with("units", value), &[])).await.unwrap_err();
        assert_eq!(at_fault(&refused), [at], "{value}");
        let batch = BatchUpdateAssetsRequest {
            filter: "rack".to_owned(),
            patch: Some(Asset { managed: Some(with("units", value)), ..Asset::default() }),
            ..Default::default()
        };
        let refused = assets.batch_update_assets(batch).await.unwrap_err();
        assert_eq!(at_fault(&refused), ["patch.managed.custom_fields.units"], "{value}");
    }
    let unknown = assets.create_asset(create("x", with("colour", "red"))).await.unwrap_err();
    assert_eq!(at_fault(&unknown), ["asset.managed.custom_fields.colour"]);
    assert!(unknown.message().contains("is not defined"), "{unknown:?}");
    running.deliver(vec![Agent::new().batch(1, vec![package(Presence::Present, "bash", "5.1")])]).await;
    let bash = running.list("bash").await.remove(0);
    let kind = assets.update_asset(update(&bash, with("units", "4"), &[])).await.unwrap_err();
    assert!(kind.message().contains("is for assets of kind CUSTOM, and this one is PACKAGE"), "{kind:?}");
    // A path in the mask without a value takes it away.
    let taken = update(&rack, ManagedFields::default(), &["managed.custom_fields.units"]);
    let taken = assets.update_asset(taken).await.unwrap().into_inner();
    assert_eq!(taken.managed.unwrap().custom_fields.len(), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_required_is_asked_for_where_custom_fields_are_written() {
    let running = Running::start().await;
    define(&running, "units", of(CustomFieldType::Number)).await.unwrap();
    let rack = created(&running, "rack", with("units", "42")).await;
    define(&running, "cost", CustomField { required: true, ..of(CustomFieldType::Text) }).await.unwrap();
    let mut assets = running.assets();
    let missing = ["asset.managed.custom_fields.cost"];
    let refused = assets.create_asset(create("x", ManagedFields::default())).await.unwrap_err();
    assert_eq!(at_fault(&refused), missing);
    let refused = assets.update_asset(update(&rack, with("units", "43"), &[])).await.unwrap_err();
    assert_eq!(at_fault(&refused), missing);
    assets.update_asset(update(&rack, owned_by("x"), &[])).await.unwrap();
    let both = update(&rack, with("cost", "12"), &["managed.custom_fields.cost"]);
    let both = assets.update_asset(both).await.unwrap().into_inner();
    assert_eq!(both.managed.unwrap().custom_fields.len(), 2);
    let taken = update(&rack, ManagedFields::default(), &["managed.custom_fields.cost"]);
    assert_eq!(at_fault(&assets.update_asset(taken).await.unwrap_err()), missing);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_is_not_narrowed_below_what_is_stored_and_the_count_is_told() {
    let running = Running::start().await;
    let made = define(&running, "tier", of(CustomFieldType::Text)).await.unwrap();
    for (name, value) in [("a", "1"), ("b", "2"), ("c", "three"), ("d", "four")] {
        created(&running, name, with("tier", value)).await;
    }
    let field = |field: CustomField| CustomField { name: made.name.clone(), ..field };
    let enumerated = |values: &[&str]| {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        field(CustomField { values, ..of(CustomFieldType::Enum) })
    };
    let short = field(CustomField { max_length: 2, ..of(CustomFieldType::Text) });
    let disks = field(CustomField { kinds: vec![AssetKind::Disk.into()], ..of(CustomFieldType::Text) });
    for (narrower, paths, count) in [
        (field(of(CustomFieldType::Number)), vec!["type"], "2"),
        (enumerated(&["1", "2", "four"]), vec!["type", "values"], "1"),
        (short, vec!["max_length"], "2"),
        (disks, vec!["kinds"], "4"),
    ] {
        let refused = redefine(&running, narrower, &paths).await.unwrap_err();
        let told = about(&refused, Code::FailedPrecondition, "VALUES_BREAK_IT");
        assert_eq!(told["count"], count, "{paths:?}");
        assert!(refused.message().contains(&format!("of {count} assets")), "{refused:?}");
    }
    let all = enumerated(&["1", "2", "three", "four"]);
    redefine(&running, all, &["type", "values"]).await.unwrap();

    let delete = DeleteCustomFieldRequest { name: made.name.clone(), ..Default::default() };
    let used = fields(&running).delete_custom_field(delete.clone()).await.unwrap_err();
    assert_eq!(about(&used, Code::FailedPrecondition, "IN_USE")["count"], "4");
    let force = DeleteCustomFieldRequest { force: true, ..delete };
    fields(&running).delete_custom_field(force).await.unwrap();
    let left = running.list("managed.custom_fields.tier=three").await.remove(0);
    let other = running.assets().update_asset(update(&left, with("tier", "1"), &[])).await.unwrap_err();
    assert_eq!(at_fault(&other), ["asset.managed.custom_fields.tier"]);
    running.assets().update_asset(update(&left, owned_by("x"), &[])).await.unwrap();
    // What is left counts when the key is defined again.
    let refused = define(&running, "tier", of(CustomFieldType::Number)).await.unwrap_err();
    assert_eq!(about(&refused, Code::FailedPrecondition, "VALUES_BREAK_IT")["count"], "2");
    define(&running, "tier", of(CustomFieldType::Text)).await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_definition_that_narrows_while_values_are_written_is_never_broken() {
    let running = Running::start().await;
    let made = define(&running, "tier", of(CustomFieldType::Text)).await.unwrap();
    let rack = created(&running, "rack", with("tier", "1")).await;
    for _ in 0..15 {
        let mut assets = running.assets();
        let edit = update(&rack, with("tier", "one"), &["managed.custom_fields.tier"]);
        let edit = tokio::spawn(async move { assets.update_asset(edit).await });
        let number = CustomField { name: made.name.clone(), ..of(CustomFieldType::Number) };
        let narrowed = redefine(&running, number, &["type"]).await;
        let edited = edit.await.unwrap();
        assert!(narrowed.is_err() || edited.is_err(), "one of them comes first, and the other sees it");
        assert!(narrowed.is_ok() || edited.is_ok());
        let text = CustomField { name: made.name.clone(), ..of(CustomFieldType::Text) };
        redefine(&running, text, &["type"]).await.unwrap();
        let back = update(&rack, with("tier", "1"), &["managed.custom_fields.tier"]);
        running.assets().update_asset(back).await.unwrap();
    }
    running.stop().await;
}
