use super::*;

/// A tree as an S-expression.
fn show(tree: &Tree) -> String {
    let many = |name: &str, parts: &[Tree]| {
        format!("({name} {})", parts.iter().map(show).collect::<Vec<_>>().join(" "))
    };
    match tree {
        Tree::And(parts) => many("and", parts),
        Tree::Or(parts) => many("or", parts),
        Tree::Not(inner) => format!("(not {})", show(inner)),
        Tree::Compare { path, operator, value } => {
            let path: Vec<_> = path.iter().map(|segment| segment.text.as_str()).collect();
            let value = match value {
                Argument::Word(word) => word.plain(),
                Argument::Call(call) => {
                    let arguments: Vec<_> = call.arguments.iter().map(|word| word.text.as_str()).collect();
                    format!("{}({})", call.name, arguments.join(","))
                }
            };
            format!("[{} {operator:?} {value}]", path.join("/"))
        }
        Tree::Text(word) => word.plain(),
    }
}

#[test]
fn reads_the_grammar() {
    for (text, expected) in [
        ("kind=PACKAGE", "[kind Equal PACKAGE]"),
        ("kind = PACKAGE", "[kind Equal PACKAGE]"),
        ("a AND b OR c AND d", "(and a (or b c) d)"),
        // A sequence binds closer than AND, OR closer than a sequence.
        ("a b OR c d", "(and a (or b c) d)"),
        ("a b AND c OR d", "(and a b (or c d))"),
        ("a b", "(and a b)"),
        ("NOT a=1 -b", "(and (not [a Equal 1]) (not b))"),
        ("NOT (a OR -b)", "(not (or a (not b)))"),
        ("-5", "(not 5)"),
        ("(a OR b) c", "(and (or a b) c)"),
        ("((a))", "a"),
        ("managed.labels.\"app.kubernetes.io/name\":x", "[managed/labels/app.kubernetes.io/name Has x]"),
        ("t>2026-03-03T00:00:00Z", "[t Greater 2026-03-03T00:00:00Z]"),
        ("details.package.version:'3.0*'", "[details/package/version Has 3.0*]"),
        ("10.0.0.1", "10.0.0.1"),
        ("n<=-5", "[n LessOrEqual -5]"),
        ("n=-5.25", "[n Equal -5.25]"),
        (r#"a="x \"y\" \\ z""#, r#"[a Equal x "y" \ z]"#),
        ("ORDER=1 ANDY", "(and [ORDER Equal 1] ANDY)"),
        ("a.NOT=1", "[a/NOT Equal 1]"),
        ("\"two words\"", "two words"),
        ("\"AND\"", "AND"),
        ("a=\"AND\"", "[a Equal AND]"),
        ("a=(x OR y)", "(or [a Equal x] [a Equal y])"),
        ("a:(x y OR \"z z\")", "(and [a Has x] (or [a Has y] [a Has z z]))"),
        ("a=(-5 OR NOT 3)", "(or [a Equal -5] (not [a Equal 3]))"),
        ("a=(2026-03-03T00:00:00Z)", "[a Equal 2026-03-03T00:00:00Z]"),
        ("a!=(x OR y)", "(not (or [a Equal x] [a Equal y]))"),
        ("a=((x OR y) b)", "(and (or [a Equal x] [a Equal y]) [a Equal b])"),
        ("t<now() b", "(and [t Less now()] b)"),
        ("t<ago(\"24h\")", "[t Less ago(24h)]"),
        ("t<ago( 24h )", "[t Less ago(24h)]"),
        ("t=(ago(1h) OR f(1,\"2, 3\"))", "(or [t Equal ago(1h)] [t Equal f(1,2, 3)])"),
        ("a (b)", "(and a b)"),
        ("ü=ö", "[ü Equal ö]"),
        (r"a=c:\x\*", r"[a Equal c:\x*]"),
        (r#"m."a\*b"=1"#, "[m/a*b Equal 1]"),
    ] {
        assert_eq!(show(&parse(text).unwrap().unwrap()), expected, "{text}");
    }
    assert_eq!(parse("  ").unwrap(), None);
}

#[test]
fn says_where_it_is_wrong() {
    for (text, position, problem) in [
        ("kind=", 5, "a value is missing before the end"),
        ("kind= AND x", 6, "a value is missing before `AND`"),
        ("(kind=)", 6, "a value is missing before `)`"),
        ("(a", 0, "`(` is never closed"),
        ("a=(b", 2, "`(` is never closed"),
        ("a)", 1, "`)` closes nothing"),
        ("()", 1, "a term is missing before `)`"),
        ("NOT", 3, "a term is missing before the end"),
        ("a AND", 5, "AND needs a term after it"),
        ("a AND OR b", 6, "OR needs a term before it"),
        ("OR a", 0, "OR needs a term before it"),
        ("=1", 0, "a field or a word is missing before `=`"),
        ("a=\"x", 2, "the quoted text has no end"),
        ("a..b=1", 2, "a field or a word is missing before `.`"),
        ("a<(b OR c)", 1, "`<` takes one value, no group"),
        ("a=(b = c)", 5, "a group of values holds values alone, no comparison `=`"),
        ("foo(1)", 0, "a function such as `foo` stands right of a comparison alone"),
        ("a=f(1", 3, "`(` is never closed"),
        ("a=f(1 2)", 6, "`,` or `)` is missing before `2`"),
        ("a=b\"c\"", 3, "`\"` is unexpected after `b`; put all of the value in quotes"),
        (&"(".repeat(30), 21, "is nested more than 20 deep"),
        (&"NOT ".repeat(30), 84, "is nested more than 20 deep"),
        (&"a ".repeat(101), 200, "more than 100 terms"),
        (&format!("a=({})", "b ".repeat(100)), 201, "more than 100 terms"),
        (&"a".repeat(9000), 0, "9000 bytes long"),
        ("a=1\0", 3, "NUL"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.problem.contains(problem), "{text}: {error}");
        assert_eq!(error.position, position, "{text}: {error}");
    }
}
