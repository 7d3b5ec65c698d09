//! Finds the binding of a request: a tree over the segments of all templates.
//! A literal wins over `*`, and `*` over `**`, segment by segment.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use http::Method;

use super::{
    path::{self, PathError},
    template::{Segment, Template},
};

/// The tree. Bindings are numbered by the caller.
#[derive(Debug, Default)]
pub struct Router {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<String, Node>,
    single: Option<Box<Node>>,
    multi: Option<Leaf>,
    leaf: Leaf,
}

/// Bindings of one path by verb and HTTP method.
type Leaf = BTreeMap<String, Vec<(Method, usize)>>;

/// What a request's path leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'p> {
    /// A binding, and the path's segments as they came, without the verb.
    Found {
        /// Number of the binding.
        binding: usize,
        /// Segments, still percent-encoded.
        segments: Vec<&'p str>,
    },
    /// The path is known, but not with this HTTP method; with these it is.
    OtherMethods(Vec<Method>),
    /// The path is not known.
    Unknown,
}

impl Router {
    /// Adds a binding; the number of the one that takes the same requests, if
    /// there is one, makes it an error.
    ///
    /// # Errors
    /// The number of the binding that is in the way.
    pub fn insert(&mut self, method: &Method, template: &Template, binding: usize) -> Result<(), usize> {
        let mut node = &mut self.root;
        let mut multi = false;
        for segment in &template.segments {
            match segment {
                Segment::Literal(text) => node = node.literals.entry(text.clone()).or_default(),
                Segment::Single => node = node.single.get_or_insert_default(),
                Segment::Multi => multi = true,
            }
        }
        let leaf = if multi { node.multi.get_or_insert_default() } else { &mut node.leaf };
        let methods = leaf.entry(template.verb.clone()).or_default();
        if let Some((_, other)) = methods.iter().find(|(known, _)| known == method) {
            return Err(*other);
        }
        methods.push((method.clone(), binding));
        Ok(())
    }

    /// Finds the binding of a request. HEAD finds what GET finds.
    ///
    /// # Errors
    /// The path is not properly percent-encoded.
    pub fn find<'p>(&self, method: &Method, path: &'p str) -> Result<Route<'p>, PathError> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let raw: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let Some((last, before)) = raw.split_last() else { return Ok(Route::Unknown) };
        let mut decoded = Vec::with_capacity(raw.len());
        for segment in before {
            decoded.push(path::decode(segment)?);
        }
        let mut allowed = Vec::new();
        // The text after the last `:` may be a verb, or part of an ID.
        let readings = last.rsplit_once(':').into_iter().chain([(*last, "")]);
        for (end, verb) in readings {
            decoded.truncate(before.len());
            decoded.push(path::decode(end)?);
            let mut search = Search { method, verb, allowed: &mut allowed };
            if let Some(binding) = search.walk(&self.root, &decoded) {
                let mut segments = before.to_vec();
                segments.push(end);
                return Ok(Route::Found { binding, segments });
            }
        }
        if allowed.is_empty() {
            return Ok(Route::Unknown);
        }
        if allowed.contains(&Method::GET) {
            allowed.push(Method::HEAD);
        }
        allowed.push(Method::OPTIONS);
        Ok(Route::OtherMethods(allowed))
    }
}

struct Search<'s> {
    method: &'s Method,
    verb: &'s str,
    allowed: &'s mut Vec<Method>,
}

impl Search<'_> {
    fn walk(&mut self, node: &Node, segments: &[Cow<'_, str>]) -> Option<usize> {
        let Some((first, rest)) = segments.split_first() else {
            let multi = node.multi.as_ref();
            return self.take(&node.leaf).or_else(|| multi.and_then(|leaf| self.take(leaf)));
        };
        if let Some(next) = node.literals.get(first.as_ref())
            && let Some(found) = self.walk(next, rest)
        {
            return Some(found);
        }
        if let Some(next) = &node.single
            && !first.is_empty()
            && let Some(found) = self.walk(next, rest)
        {
            return Some(found);
        }
        node.multi.as_ref().and_then(|leaf| self.take(leaf))
    }

    fn take(&mut self, leaf: &Leaf) -> Option<usize> {
        for (method, binding) in leaf.get(self.verb)? {
            if method == self.method {
                return Some(*binding);
            }
            if !self.allowed.contains(method) {
                self.allowed.push(method.clone());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::template;

    const RULES: &[(Method, &str)] = &[
        (Method::GET, "/v1/assets"),
        (Method::POST, "/v1/assets"),
        (Method::GET, "/v1/{name=assets/*}"),
        (Method::PATCH, "/v1/{asset.name=assets/*}"),
        (Method::GET, "/v1/{parent=assets/*}/revisions"),
        (Method::GET, "/v1/assets:watch"),
        (Method::POST, "/v1/{name=assets/*}:undelete"),
        (Method::GET, "/v1/{path=files/**}"),
        (Method::GET, "/v1/assets/special"),
        (Method::GET, "/v1/files/fixed"),
    ];

    fn router() -> Router {
        let mut router = Router::default();
        for (index, (method, text)) in RULES.iter().enumerate() {
            router.insert(method, &template::parse(text).unwrap(), index).unwrap();
        }
        router
    }

    #[test]
    fn requests_find_their_rule() {
        let router = router();
        for (method, path, rule) in [
            (Method::GET, "/v1/assets", Some(0)),
            (Method::HEAD, "/v1/assets", Some(0)),
            (Method::POST, "/v1/assets", Some(1)),
            (Method::GET, "/v1/assets/a", Some(2)),
            (Method::GET, "/v1/%61ssets/a%2Fb", Some(2)),
            (Method::PATCH, "/v1/assets/a", Some(3)),
            (Method::GET, "/v1/assets/a/revisions", Some(4)),
            (Method::GET, "/v1/assets:watch", Some(5)),
            (Method::POST, "/v1/assets/a:undelete", Some(6)),
            (Method::GET, "/v1/assets/a:nothing", Some(2)),
            (Method::GET, "/v1/files/a/b/c", Some(7)),
            (Method::GET, "/v1/files", Some(7)),
            (Method::GET, "/v1/assets/special", Some(8)),
            (Method::PATCH, "/v1/assets/special", Some(3)),
            (Method::GET, "/v1/files/fixed", Some(9)),
            (Method::GET, "/v1/files/fixed/more", Some(7)),
            (Method::GET, "/v1/assets/", None),
            (Method::GET, "/v1/assets//revisions", None),
            (Method::GET, "/v1/assets/a/", None),
            (Method::GET, "/v2/assets", None),
            (Method::GET, "/", None),
            (Method::GET, "//v1/assets", None),
        ] {
            let found = match router.find(&method, path).unwrap() {
                Route::Found { binding, .. } => Some(binding),
                Route::OtherMethods(methods) => panic!("{method} {path}: {methods:?}"),
                Route::Unknown => None,
            };
            assert_eq!(found, rule, "{method} {path}");
        }
    }

    #[test]
    fn another_method_is_told_which_are_allowed() {
        let route = router().find(&Method::DELETE, "/v1/assets/a").unwrap();
        let allowed = vec![Method::GET, Method::PATCH, Method::HEAD, Method::OPTIONS];
        assert_eq!(route, Route::OtherMethods(allowed));
    }

    #[test]
    fn two_rules_for_the_same_requests_are_refused() {
        let mut router = router();
        for same in ["/v1/{other=assets/*}", "/v1/assets/*"] {
            assert_eq!(router.insert(&Method::GET, &template::parse(same).unwrap(), 99), Err(2), "{same}");
        }
        assert_eq!(router.insert(&Method::DELETE, &template::parse("/v1/assets/*").unwrap(), 99), Ok(()));
    }

    /// For any template and any values, the path made of both leads back to
    /// the template, and its segments to the values.
    #[test]
    fn a_path_made_from_a_template_leads_back_to_it() {
        let values = ["a", "A-b_c.~9", "ä", "a/b", "50%", "a:b", "x:watch", "*", "**", "{x}", " ", "%2F"];
        for value in values {
            for other in values {
                let (first, second) = (path::encode(value), path::encode(other));
                for (text, path) in [
                    ("/v1/{name=assets/*}/revisions/{r}", format!("/v1/assets/{first}/revisions/{second}")),
                    ("/v1/{name=nodes/*}/{r}:scan", format!("/v1/nodes/{first}/{second}:scan")),
                ] {
                    let template = template::parse(text).unwrap();
                    let mut router = Router::default();
                    router.insert(&Method::GET, &template, 7).unwrap();
                    let Route::Found { binding, segments } = router.find(&Method::GET, &path).unwrap() else {
                        panic!("{text} does not take {path}");
                    };
                    assert_eq!(binding, 7);
                    let read: Vec<String> = template
                        .variables
                        .iter()
                        .map(|variable| path::value(variable, &template, &segments).unwrap())
                        .collect();
                    assert_eq!(read[1], other, "{text} {path}");
                    let within_several = value.replace('/', "%2F");
                    assert!(read[0].ends_with(&format!("s/{within_several}")), "{text} {path}: {read:?}");
                }
            }
        }
    }
}
