//! The table of all public RPCs and their REST bindings, built at start from
//! the descriptors. A new RPC needs no code here; a contract that cannot be
//! served ends the start with the reason.

use std::{collections::HashMap, sync::Arc};

use http::Method;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind,
    MessageDescriptor, MethodDescriptor, Value,
};

pub mod path;
pub mod router;
pub mod template;

use router::{Route, Router};
use template::{Template, TemplateError};

/// The process that answers a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// The processor.
    Processor,
    /// Any of the collectors.
    Collector,
    /// The gateway itself.
    Gateway,
}

/// A public RPC.
#[derive(Debug)]
pub struct Rpc {
    /// Path in gRPC, such as `/assettrack.v1.AssetService/GetAsset`.
    pub path: String,
    /// Who answers.
    pub upstream: Upstream,
    /// Type of the request.
    pub input: MessageDescriptor,
    /// Type of the answer.
    pub output: MessageDescriptor,
    /// Whether the client sends a stream.
    pub client_streaming: bool,
    /// Whether the server sends a stream.
    pub server_streaming: bool,
}

/// One REST binding of an RPC.
#[derive(Debug)]
pub struct Binding {
    /// What it calls.
    pub rpc: Arc<Rpc>,
    /// HTTP method it takes.
    pub method: Method,
    /// Path it takes.
    pub template: Template,
    /// The same as the contract has it.
    pub text: String,
    /// For each variable of the template, the fields down to the one it sets.
    pub path_fields: Vec<Vec<FieldDescriptor>>,
    /// What the HTTP body fills.
    pub body: Body,
    /// The field of the answer that is sent; none for the whole answer.
    pub response_body: Option<FieldDescriptor>,
}

/// What an HTTP body fills.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Nothing: there must not be one.
    None,
    /// The request message.
    Whole,
    /// One field of it, of a message type.
    Field(FieldDescriptor),
}

/// A contract that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The descriptor set is broken.
    #[error("the descriptor set cannot be read: {0}")]
    Descriptors(#[from] prost_reflect::DescriptorError),
    /// An option's extension is not in the descriptor set.
    #[error("the descriptor set does not declare {0}")]
    NoExtension(&'static str),
    /// An option has a value that this gateway does not know.
    #[error("{0}: its upstream is {1}, which this gateway does not know")]
    Upstream(String, i32),
    /// A path template is none.
    #[error("{rpc}: `{template}` {error}")]
    Template {
        /// The RPC.
        rpc: String,
        /// Its template.
        template: String,
        /// What is wrong with it.
        error: TemplateError,
    },
    /// A field that a rule names cannot be used so.
    #[error("{rpc}: `{field}` {problem}")]
    Field {
        /// The RPC.
        rpc: String,
        /// The field, as the rule names it.
        field: String,
        /// Why not.
        problem: &'static str,
    },
    /// A rule cannot be served.
    #[error("{0}: {1}")]
    Rule(String, &'static str),
    /// Two rules take the same requests.
    #[error("{0} and {1}: both take {2} {3}")]
    Ambiguous(String, String, Method, String),
}

/// All public RPCs and how REST reaches them.
#[derive(Debug)]
pub struct Table {
    pool: DescriptorPool,
    rpcs: HashMap<String, Arc<Rpc>>,
    bindings: Vec<Binding>,
    router: Router,
}

impl Table {
    /// Builds the table from an encoded FileDescriptorSet. It must be the
    /// encoded form: prost's own types drop the custom options.
    ///
    /// # Errors
    /// See [`TableError`].
    pub fn build(descriptor_set: &[u8]) -> Result<Self, TableError> {
        let pool = DescriptorPool::decode(descriptor_set)?;
        let upstream = extension(&pool, "assettrack.v1.upstream")?;
        let http = extension(&pool, "google.api.http")?;
        let mut table = Self {
            pool: pool.clone(),
            rpcs: HashMap::new(),
            bindings: Vec::new(),
            router: Router::default(),
        };
        for service in pool.services() {
            let upstream = match service.options().get_extension(&upstream).as_enum_number().unwrap_or(0) {
                0 => continue,
                1 => Upstream::Processor,
                2 => Upstream::Collector,
                3 => Upstream::Gateway,
                other => return Err(TableError::Upstream(service.full_name().to_owned(), other)),
            };
            for method in service.methods() {
                table.add(&method, upstream, &http)?;
            }
        }
        Ok(table)
    }

    fn add(
        &mut self,
        method: &MethodDescriptor,
        upstream: Upstream,
        http: &ExtensionDescriptor,
    ) -> Result<(), TableError> {
        let rpc = Arc::new(Rpc {
            path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            upstream,
            input: method.input(),
            output: method.output(),
            client_streaming: method.is_client_streaming(),
            server_streaming: method.is_server_streaming(),
        });
        self.rpcs.insert(rpc.path.clone(), Arc::clone(&rpc));
        let options = method.options();
        if !options.has_extension(http) {
            return Ok(());
        }
        if rpc.client_streaming {
            return Err(TableError::Rule(rpc.path.clone(), "a client's stream cannot be bound to REST"));
        }
        let rule = options.get_extension(http);
        let Some(rule) = rule.as_message() else { return Ok(()) };
        self.bind(&rpc, rule)?;
        let additional = rule.get_field_by_name("additional_bindings");
        let additional = additional.as_deref().and_then(Value::as_list).unwrap_or_default();
        for rule in additional.iter().filter_map(Value::as_message) {
            self.bind(&rpc, rule)?;
        }
        Ok(())
    }

    fn bind(&mut self, rpc: &Arc<Rpc>, rule: &DynamicMessage) -> Result<(), TableError> {
        let binding = binding(rpc, rule)?;
        let number = self.bindings.len();
        if let Err(other) = self.router.insert(&binding.method, &binding.template, number) {
            let other = self.bindings.get(other).map_or_else(String::new, |binding| binding.rpc.path.clone());
            return Err(TableError::Ambiguous(other, rpc.path.clone(), binding.method, binding.text));
        }
        self.bindings.push(binding);
        Ok(())
    }

    /// The descriptors of everything, error details included.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The public RPC of a gRPC path.
    pub fn rpc(&self, path: &str) -> Option<&Arc<Rpc>> {
        self.rpcs.get(path)
    }

    /// Full names of the public services, sorted.
    pub fn services(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.rpcs.keys().filter_map(|path| path.split('/').nth(1)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// All REST bindings.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// Whether a path lies under the first segment of any REST binding, such
    /// as `/v1`: whatever is not found there is an error of the API.
    pub fn is_rest(&self, path: &str) -> bool {
        let first = path.split('/').nth(1).unwrap_or_default();
        self.bindings.iter().any(|binding| {
            matches!(binding.template.segments.first(), Some(template::Segment::Literal(text)) if text == first)
        })
    }

    /// Finds the REST binding of a request.
    ///
    /// # Errors
    /// The path is not properly encoded.
    pub fn find<'p>(&self, method: &Method, path: &'p str) -> Result<Route<'p>, path::PathError> {
        self.router.find(method, path)
    }
}

fn extension(pool: &DescriptorPool, name: &'static str) -> Result<ExtensionDescriptor, TableError> {
    pool.get_extension_by_name(name).ok_or(TableError::NoExtension(name))
}

fn binding(rpc: &Arc<Rpc>, rule: &DynamicMessage) -> Result<Binding, TableError> {
    let text = |name: &str| {
        let value = rule.get_field_by_name(name);
        value.as_deref().and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let methods = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    let Some((name, method)) = methods.into_iter().find(|(name, _)| rule.has_field_by_name(name)) else {
        return Err(TableError::Rule(rpc.path.clone(), "its google.api.http names no HTTP method"));
    };
    let path = text(name);
    let template = template::parse(&path).map_err(|error| TableError::Template {
        rpc: rpc.path.clone(),
        template: path.clone(),
        error,
    })?;
    let problem = |field: &str, problem: &'static str| TableError::Field {
        rpc: rpc.path.clone(),
        field: field.to_owned(),
        problem,
    };

    let mut path_fields = Vec::new();
    for variable in &template.variables {
        let fields = field_path(&rpc.input, &variable.field_path)
            .ok_or_else(|| problem(&variable.field_path.join("."), "is no field of the request"))?;
        if fields.last().is_none_or(|field| field.is_list() || field.kind() != Kind::String) {
            return Err(problem(&variable.field_path.join("."), "is set by the path, but is not a string"));
        }
        path_fields.push(fields);
    }
    let body = match text("body").as_str() {
        "" => Body::None,
        "*" => Body::Whole,
        name => {
            let field = rpc
                .input
                .get_field_by_name(name)
                .ok_or_else(|| problem(name, "is no field of the request"))?;
            if field.cardinality() == Cardinality::Repeated || !matches!(field.kind(), Kind::Message(_)) {
                return Err(problem(name, "is filled by the HTTP body, but is not a message"));
            }
            Body::Field(field)
        }
    };
    if body != Body::None && (method == Method::GET || method == Method::DELETE) {
        return Err(TableError::Rule(rpc.path.clone(), "a GET or DELETE must not have a body"));
    }
    let response_body = match text("response_body").as_str() {
        "" => None,
        name => Some(
            rpc.output.get_field_by_name(name).ok_or_else(|| problem(name, "is no field of the answer"))?,
        ),
    };
    Ok(Binding { rpc: Arc::clone(rpc), method, template, text: path, path_fields, body, response_body })
}

/// Follows names from a message down to a field; none but the last may be
/// repeated, and all but the last must be messages.
fn field_path(message: &MessageDescriptor, names: &[String]) -> Option<Vec<FieldDescriptor>> {
    let mut fields: Vec<FieldDescriptor> = Vec::new();
    let mut message = Some(message.clone());
    for name in names {
        let field = message?.get_field_by_name(name)?;
        message = match field.kind() {
            Kind::Message(inner) if field.cardinality() != Cardinality::Repeated => Some(inner),
            _ => None,
        };
        fields.push(field);
    }
    Some(fields)
}

#[cfg(test)]
mod tests;
