use contracts::v1::{CustomField, CustomFieldType};

use super::*;
use crate::domain::custom_field::Definition;

fn recorded() -> Editable {
    let managed = ManagedFields {
        owner: "ops".to_owned(),
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        ..ManagedFields::default()
    };
    Editable { display_name: "rack 12".to_owned(), managed }
}

fn asset(managed: ManagedFields) -> Asset {
    Asset { managed: Some(managed), ..Asset::default() }
}

fn mask(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

fn definitions() -> Definitions {
    let field = |field_type: CustomFieldType| CustomField { r#type: field_type.into(), ..Default::default() };
    let cost = CustomField { required: true, ..field(CustomFieldType::Text) };
    let units = CustomField { kinds: vec![AssetKind::Custom.into()], ..field(CustomFieldType::Number) };
    Definitions::new([
        ("cost_centre".to_owned(), Definition::new(cost).unwrap()),
        ("units".to_owned(), Definition::new(units).unwrap()),
    ])
}

fn rules(kind: AssetKind, definitions: &Definitions) -> Rules<'_> {
    Rules { kind, definitions }
}

#[test]
fn an_edit_writes_what_the_mask_names() {
    let none = Definitions::default();
    let given = ManagedFields { notes: "n".to_owned(), ..ManagedFields::default() };
    let edited = |paths: &[&str]| {
        edit(&recorded(), &asset(given.clone()), &mask(paths), rules(AssetKind::Disk, &none)).unwrap()
    };
    assert_eq!(edited(&[]).1, ["managed.notes"]);
    assert_eq!(edited(&["managed.owner"]).1, ["managed.owner"]);
    assert_eq!(edited(&["managed.labels.env"]).1, ["managed.labels.env"]);
    assert_eq!(edited(&["managed.labels.`env`", "name", "etag"]).1, ["managed.labels.env"]);
    assert_eq!(edited(&["managed.labels"]).1, ["managed.labels.env"]);
    assert_eq!(edited(&["*"]).1, ["managed.labels.env", "managed.notes", "managed.owner"]);
    assert_eq!(edited(&["managed"]).1, edited(&["*"]).1);
    assert_eq!(edited(&["managed.location"]).1, [""; 0]);
    // Of what a person created, `*` is the name too.
    let named = Asset { display_name: "rack 13".to_owned(), ..asset(given) };
    let custom = edit(&recorded(), &named, &mask(&["*"]), rules(AssetKind::Custom, &none)).unwrap().1;
    assert_eq!(custom, ["display_name", "managed.labels.env", "managed.notes", "managed.owner"]);
}

#[test]
fn entries_of_maps_are_set_and_taken_away_by_key() {
    let none = Definitions::default();
    let labels = [("example.org/team".to_owned(), "a".to_owned()), ("b".to_owned(), "c".to_owned())].into();
    let given = asset(ManagedFields { labels, ..ManagedFields::default() });
    let paths = mask(&["managed.labels.`example.org/team`", "managed.labels.env", "managed.labels.x"]);
    let (after, changed) = edit(&recorded(), &given, &paths, rules(AssetKind::Disk, &none)).unwrap();
    assert_eq!(changed, ["managed.labels.env", "managed.labels.example.org/team"]);
    assert_eq!(after.managed.labels, [("example.org/team".to_owned(), "a".to_owned())].into());
    let dotted =
        edit(&recorded(), &given, &mask(&["managed.labels.example.org/team"]), rules(AssetKind::Disk, &none));
    assert_eq!(dotted.unwrap().1, ["managed.labels.example.org/team"], "dots need no backticks");
}

#[test]
fn what_may_not_be_edited_is_named() {
    let none = Definitions::default();
    let error = |asset: &Asset, paths: &[&str], kind| {
        edit(&recorded(), asset, &mask(paths), rules(kind, &none)).unwrap_err().to_string()
    };
    let (disk, custom) = (AssetKind::Disk, AssetKind::Custom);
    let empty = Asset::default();
    assert!(error(&empty, &["details.package.version"], disk).contains("is observed"));
    assert!(error(&empty, &["display_name"], disk).starts_with("update_mask: `display_name` is observed"));
    assert!(error(&empty, &["display_name"], custom).starts_with("asset.display_name: is required"));
    assert!(error(&empty, &["*"], custom).starts_with("asset.display_name: is required"));
    assert!(error(&empty, &["revision"], custom).contains("cannot be edited"));
    assert!(error(&empty, &["managed.labels."], disk).contains("cannot be edited"));
    assert!(error(&empty, &["managed.labels.``"], disk).contains("cannot be edited"));
    assert!(error(&empty, &[], disk).contains("nothing to write"));
    assert!(error(&empty, &["managed.owner"; 257], disk).contains("at most 256"));
    let labels = |key: &str, value: &str| {
        let labels = [(key.to_owned(), value.to_owned())].into();
        asset(ManagedFields { labels, ..ManagedFields::default() })
    };
    assert!(error(&labels("-x", ""), &[], disk).starts_with("asset.managed.labels[\"-x\"]: a key is"));
    assert!(error(&labels("k", "a b"), &[], disk).contains("a value is empty, or"));
    let many = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
    let many = asset(ManagedFields { labels: many, ..ManagedFields::default() });
    assert!(error(&many, &[], disk).contains("has 65 labels; at most 64"));
    let owner = |owner: String| asset(ManagedFields { owner, ..ManagedFields::default() });
    assert_eq!(
        error(&owner("x".repeat(257)), &[], disk),
        "asset.managed.owner: is 257 bytes long; at most 256 are allowed"
    );
    assert!(error(&owner("a\nb".to_owned()), &[], disk).contains("control character"));
    assert!(error(&owner(" a".to_owned()), &[], disk).contains("white space"));
    let odd = ManagedFields { lifecycle: 77, ..ManagedFields::default() };
    assert!(error(&asset(odd), &[], disk).contains("77 is not a value"));
}

#[test]
fn what_was_recorded_before_a_rule_hinders_no_other_edit() {
    let none = Definitions::default();
    let mut before = recorded();
    before.managed.labels.insert("old".to_owned(), "row 4, left".to_owned());
    before.managed.custom_fields.insert("gone".to_owned(), "x".to_owned());
    let given = asset(ManagedFields { notes: "n".to_owned(), ..ManagedFields::default() });
    let rules = rules(AssetKind::Disk, &none);
    assert_eq!(edit(&before, &given, &[], rules).unwrap().1, ["managed.notes"]);
    let taken = edit(&before, &given, &mask(&["managed.custom_fields.gone"]), rules).unwrap();
    assert_eq!(taken.1, ["managed.custom_fields.gone"]);
    let custom_fields = [("gone".to_owned(), "y".to_owned())].into();
    let other = asset(ManagedFields { custom_fields, ..ManagedFields::default() });
    let refused = edit(&before, &other, &[], rules).unwrap_err().to_string();
    assert!(refused.starts_with("asset.managed.custom_fields.gone: is not defined"), "{refused}");
}

#[test]
fn custom_fields_go_by_their_definitions() {
    let definitions = definitions();
    let edited = |kind, fields: &[(&str, &str)], paths: &[&str]| {
        let custom_fields = fields.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let given = asset(ManagedFields { custom_fields, ..ManagedFields::default() });
        edit(&recorded(), &given, &mask(paths), rules(kind, &definitions))
            .map(|(_, changed)| changed)
            .map_err(|refused| refused.to_string())
    };
    let (disk, custom) = (AssetKind::Disk, AssetKind::Custom);
    let both = [("cost_centre", "12"), ("units", "4")];
    let paths = ["managed.custom_fields.cost_centre", "managed.custom_fields.units"];
    assert_eq!(edited(custom, &both, &[]).unwrap(), paths);
    assert_eq!(edited(custom, &both, &paths).unwrap(), paths);
    let wrong = edited(custom, &[("cost_centre", "12"), ("units", "four")], &[]).unwrap_err();
    assert!(wrong.starts_with("asset.managed.custom_fields.units: "), "{wrong}");
    let kind = edited(disk, &both, &[]).unwrap_err();
    assert!(kind.starts_with("asset.managed.custom_fields.units: is for assets of kind CUSTOM"), "{kind}");
    let required = edited(custom, &[("units", "4")], &[]).unwrap_err();
    assert_eq!(required, "asset.managed.custom_fields.cost_centre: is required of assets of this kind");
    // Other edits are not held up by what is required, new assets are.
    assert_eq!(edited(custom, &[], &["managed.owner"]).unwrap(), ["managed.owner"]);
    let new = check(None, &recorded(), rules(custom, &definitions)).unwrap_err().to_string();
    assert!(new.contains("cost_centre: is required"), "{new}");
}

#[test]
fn the_lifecycle_goes_by_its_rules() {
    let none = Definitions::default();
    let mut before = recorded();
    before.managed.lifecycle = Lifecycle::Retired.into();
    let to = |lifecycle: Lifecycle| {
        let given = asset(ManagedFields { lifecycle: lifecycle.into(), ..ManagedFields::default() });
        edit(&before, &given, &mask(&["managed.lifecycle"]), rules(AssetKind::Disk, &none))
    };
    assert_eq!(to(Lifecycle::Disposed).unwrap().1, ["managed.lifecycle"]);
    assert_eq!(to(Lifecycle::Retired).unwrap().1, [""; 0]);
    assert!(matches!(to(Lifecycle::Maintenance), Err(Refused::Transition(_))));
    assert!(matches!(to(Lifecycle::Unspecified), Err(Refused::Transition(_))));
}
