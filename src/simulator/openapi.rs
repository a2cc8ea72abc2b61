//! `/_sim/openapi.json`: an `OpenAPI` 3.1 document of both sides, made of the tables that serve them.

use serde_json::{Map, Value, json};

use super::api::{self, Access, Body, Endpoint, Verb};
use super::control::{ROUTES, Route};
use super::errcode;

/// The document, for the simulator at `origin`.
pub(crate) fn document(origin: &str) -> Value {
    let mut paths = Map::new();
    for endpoint in api::endpoints() {
        let methods: &[&str] = match endpoint.method {
            Verb::Get => &["get"],
            Verb::Post => &["post"],
            Verb::Either => &["get", "post"],
        };
        for method in methods {
            add(
                &mut paths,
                endpoint.path,
                method,
                of_endpoint(endpoint, method),
            );
        }
    }
    for route in ROUTES {
        let path = format!("/_sim{}", route.path);
        let method = route.method.to_ascii_lowercase();
        add(&mut paths, &path, &method, of_route(route));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "A simulated WeChat platform",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The API of an Official Account as the platform answers it, and under /_sim \
                the controls of the simulator. The API answers with status 200 even where it refuses: \
                errcode and errmsg say so.",
        },
        "servers": [{"url": origin}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "access_token": {"type": "apiKey", "in": "query", "name": "access_token"},
            },
            "schemas": {
                "Refusal": {
                    "type": "object",
                    "required": ["errcode", "errmsg"],
                    "properties": {
                        "errcode": {"type": "integer"},
                        "errmsg": {
                            "type": "string",
                            "description": "Not stable: it ends with a rid.",
                        },
                    },
                },
                "ControlError": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": {"type": "string"}},
                },
            },
        },
    })
}

fn add(paths: &mut Map<String, Value>, path: &str, method: &str, operation: Value) {
    paths.entry(path).or_insert_with(|| json!({}))[method] = operation;
}

fn of_endpoint(endpoint: &Endpoint, method: &str) -> Value {
    let errors = endpoint.errors.iter();
    let errors: Vec<_> = errors
        .map(|code| format!("{code} {}", errcode::text(*code)))
        .collect();
    let mut operation = json!({
        "operationId": operation_id(method, endpoint.path),
        "summary": endpoint.summary,
        "tags": [tag(endpoint.path)],
        "parameters": parameters(endpoint.query),
        "responses": {"200": {
            "description": "The answer, or a refusal with errcode and errmsg",
            "content": {"application/json": {"schema": {"anyOf": [
                {"type": "object"},
                {"$ref": "#/components/schemas/Refusal"},
            ]}}},
        }},
        "x-errcodes": endpoint.errors,
    });
    if !errors.is_empty() {
        operation["description"] = json!(format!("Refuses with {}.", errors.join("; ")));
    }
    if endpoint.access == Access::Token {
        operation["security"] = json!([{"access_token": []}]);
    }
    if let Some(daily) = endpoint.daily {
        operation["x-daily-quota"] = json!(daily.account);
    }
    match endpoint.body {
        Body::Nothing => {}
        Body::Json(members) => {
            operation["requestBody"] = body("application/json", object(members));
        }
        Body::Form(parts) => {
            operation["requestBody"] = body("multipart/form-data", object(parts));
        }
    }
    operation
}

fn of_route(route: &Route) -> Value {
    let error = json!({
        "description": "What was wrong with the call, in a sentence",
        "content": {"application/json": {
            "schema": {"$ref": "#/components/schemas/ControlError"},
        }},
    });
    let content_type = match (route.method, route.path) {
        ("GET", "/events") => "text/event-stream",
        ("GET", "/media") => "application/octet-stream",
        _ => "application/json",
    };
    let mut operation = json!({
        "operationId": operation_id(route.method, &format!("/_sim{}", route.path)),
        "summary": route.summary,
        "tags": ["simulator"],
        "parameters": parameters(route.query),
        "responses": {
            "200": {"description": "Done", "content": {content_type: {"schema": {}}}},
            "4XX": error,
        },
    });
    if !route.members.is_empty() {
        operation["requestBody"] = body("application/json", object(route.members));
    }
    operation
}

/// `get /cgi-bin/tags/get` → `get_cgi_bin_tags_get`
fn operation_id(method: &str, path: &str) -> String {
    let words = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '_'
        }
    };
    let path: String = path.chars().map(words).collect();
    format!("{}{path}", method.to_ascii_lowercase())
}

/// The first part of the path after `/cgi-bin`.
fn tag(path: &str) -> &str {
    let path = path.trim_start_matches("/cgi-bin");
    path.trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default()
}

/// A name, and whether it must be there.
fn wanted<'a>(name: &'a &'static str) -> (&'a str, bool) {
    match name.strip_suffix('?') {
        Some(name) => (name, false),
        None => (name, true),
    }
}

fn parameters(names: &'static [&'static str]) -> Value {
    names
        .iter()
        .map(|name| {
            let (name, required) = wanted(name);
            json!({"name": name, "in": "query", "required": required, "schema": {"type": "string"}})
        })
        .collect()
}

fn object(names: &'static [&'static str]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for name in names {
        let (name, is_required) = wanted(name);
        let schema = match name {
            "media" => json!({"type": "string", "format": "binary"}),
            _ => json!({}),
        };
        properties.insert(name.to_owned(), schema);
        if is_required {
            required.push(name);
        }
    }
    json!({"type": "object", "properties": properties, "required": required})
}

fn body(content_type: &str, schema: Value) -> Value {
    let required = schema["required"]
        .as_array()
        .is_some_and(|list| !list.is_empty());
    json!({"required": required, "content": {content_type: {"schema": schema}}})
}
