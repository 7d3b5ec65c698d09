use super::*;
use crate::domain::{changes::Descriptors, filter::read};

fn schema() -> Schema {
    Schema {
        message: Descriptors::default().message("Asset").unwrap(),
        names: &[("name", Collection::Assets), ("node", Collection::Nodes)],
        unsearchable: &["etag"],
    }
}

fn one(text: &str) -> (String, FieldType, Literal) {
    match read(text, &schema(), Utc::now()).unwrap().unwrap() {
        Predicate::Compare { field, value, .. } => (field.path.join("/"), field.field_type, value),
        other => panic!("{other:?}"),
    }
}

#[test]
fn fields_and_values_have_the_types_of_the_contract() {
    let package = Literal::Enum(5, "ASSET_KIND_PACKAGE".to_owned());
    assert_eq!(one("kind=PACKAGE"), ("kind".to_owned(), FieldType::Enum, package.clone()));
    assert_eq!(one("kind=ASSET_KIND_PACKAGE").2, package);
    assert_eq!(one("revision>=3").2, Literal::Number(3.into()));
    assert_eq!(one("details.disk.size_bytes>5").1, FieldType::Number);
    assert_eq!(one("details.disk.rotational=true").2, Literal::Bool(true));
    assert_eq!(one("details.filesystem.options:ro").1, FieldType::Text);
    assert_eq!(one("details.numa_node.distances:10").2, Literal::Number(10.into()));
    assert_eq!(one("details.container.image:nginx").1, FieldType::Text);
    assert_eq!(one("details.user.sudoers:*").2, Literal::Present);
    assert_eq!(one("details:package").0, "details/package");
    assert_eq!(one("details.disk.size_bytes<18446744073709551615").1, FieldType::Number);
    assert_eq!(one("details.certificate.notAfterTime<2027-01-01T00:00:00Z").1, FieldType::Time);
    assert_eq!(one("details.pci_device.numa_node=0").2, Literal::Number(0.into()));
    assert_eq!(one("details.relations:*").1, FieldType::Message);
    let related = one("details.relations.kind:DISK");
    assert_eq!(related.0, "details/relations/kind");
    assert_eq!(related.2, Literal::Enum(2, "ASSET_KIND_DISK".to_owned()));
    assert_eq!(one("details.processor.caches.level:3").2, Literal::Number(3.into()));
    assert_eq!(one("managed.labels.a.b/c=x").0, "managed/labels/a.b/c");
    assert_eq!(one("managed.labels:env").1, FieldType::Map);
    assert_eq!(one("managed.owner:*").2, Literal::Present);
    assert_eq!(one("displayName=x").0, "display_name");
    let uid = Uuid::from_u128(9);
    assert_eq!(one(&format!("node=nodes/{uid}")).2, Literal::Uuid(uid));
    assert!(matches!(one("update_time<2026-03-03T00:00:00+01:00").2, Literal::Time(_)));
}

#[test]
fn wrong_fields_and_values_are_told_precisely() {
    for (text, position, problem) in [
        ("kindd=PACKAGE", 0, "there is no field `kindd`; did you mean `kind`? There are create_time, "),
        ("owner=x", 0, "there is no field `owner`; did you mean `managed.owner`?"),
        ("ä=1 kindd=PACKAGE", 0, "there is no field `ä`"),
        (
            "update_time>agoo(1h)",
            12,
            "there is no function `agoo`; did you mean `ago`? There are now, ago, ahead",
        ),
        ("update_time>ago(1x)", 16, "`1x` is not a duration like"),
        ("update_time>ago()", 12, "`ago` takes one duration"),
        ("update_time>now(1s)", 12, "`now` takes nothing"),
        ("kind=now()", 5, "`now` gives a time, and `kind` is none"),
        ("revision=1.5", 9, "`1.5` is not a whole number"),
        ("details:packge", 8, "there is no field `packge` in `details`; did you mean `package`?"),
        ("details.processor.caches:x", 0, "by `:*` alone"),
        ("a=1 etag=x", 0, "there is no field `a`"),
        ("etag=x", 0, "there is no field `etag`"),
        ("kind=PAKAGE", 5, "which `kind` needs; did you mean `PACKAGE`?"),
        (
            "details.package.vrsion=1",
            16,
            "there is no field `vrsion` in `details.package`; did you mean `version`?",
        ),
        ("revision=x", 9, "not a whole number"),
        ("update_time>yesterday", 12, "not a time like 2026-03-03T00:00:00Z or a date"),
        ("node=x", 5, "not a name like nodes/{uuid}"),
        ("kind>DISK", 0, "by `=`, `!=` and `:` alone"),
        ("details=x", 0, "by `:*` alone"),
        ("kind.x=1", 5, "has no fields of its own"),
        ("details.disk.rotational=yes", 24, "not true or false"),
        (
            "details.contaner.image:x",
            8,
            "there is no field `contaner` in `details`; did you mean `container`? There are accelerator, board,",
        ),
        (
            "details.container.imag:x",
            18,
            "there is no field `imag` in `details.container`; did you mean `image`? There are container,",
        ),
        (
            "details.relations.kind=DISK",
            0,
            "`details.relations` is a list, so `details.relations.kind` can be compared by `:` alone",
        ),
        (
            "details.relations.knd:DISK",
            18,
            "there is no field `knd` in `details.relations`; did you mean `kind`? There are kind, natural_key, type",
        ),
        ("details.relations.kind:DISC", 23, "`DISC` is not one of NODE, DISK"),
        ("details.relations=x", 0, "by `:*` alone"),
        ("details.pod.pod.x=1", 16, "`details.pod.pod` has no fields of its own"),
    ] {
        let error = read(text, &schema(), Utc::now()).unwrap_err();
        assert!(error.problem.contains(problem), "{text}: {error}");
        assert_eq!(error.position, position, "{text}: {error}");
    }
}
