//! `/v1/openapi.json`: what can be asked at the admin address, as OpenAPI 3.1, for programs.
//!
//! The document stands beside this file and is served as it stands. Whoever changes what is asked or answered changes it too: the tests
//! here hold its paths and methods against the router, and `tests/api.rs` of the program has schemathesis hold what is answered against it.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// The document.
const DOCUMENT: &str = include_str!("openapi.json");

pub(crate) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use plimsoll_proxy::Snapshot;
    use serde_json::Value;

    use super::*;
    use crate::admin::{Published, router, routes};
    use crate::admin_server::Guard;

    const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    /// What is answered by a process with one backend and nobody who takes orders.
    fn answer(method: &str, path: &str) -> Response {
        let config = plimsoll_config::from_flags(&[":8080".to_owned()], &["127.0.0.1:1".to_owned()]).unwrap();
        let published = Published::new(Arc::new(Snapshot::new(config.config, None)), None);
        let router = router(Arc::new(published), Guard::new(None, true));
        let router = router.layer(axum::Extension(crate::servers::Asker("test".to_owned())));
        let path = path.replace("{backend}", "listen%20%3A8080").replace("{server}", "127.0.0.1%3A1");
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(TowerToHyperService::new(router).call(request)).unwrap()
    }

    fn allowed(response: &Response) -> BTreeSet<String> {
        let allow = response.headers().get(header::ALLOW).map(|allow| allow.to_str().unwrap());
        allow.unwrap_or_default().split(',').map(str::to_owned).collect()
    }

    #[test]
    fn the_routers_paths_and_methods_are_the_documents() {
        let document = document();
        let described = document["paths"].as_object().unwrap();
        let routed: BTreeSet<&str> = routes().iter().map(|(path, _)| *path).collect();
        assert_eq!(described.keys().map(String::as_str).collect::<BTreeSet<_>>(), routed);
        for (path, item) in described {
            let mut wanted: BTreeSet<String> = METHODS
                .iter()
                .filter(|m| item.get(m.to_lowercase()).is_some())
                .map(|m| (*m).to_owned())
                .collect();
            if wanted.contains("GET") {
                wanted.insert("HEAD".to_owned());
            }
            for method in METHODS {
                let answer = answer(method, path);
                let is_refused = answer.status() == StatusCode::METHOD_NOT_ALLOWED;
                assert_eq!(is_refused, !wanted.contains(method), "{method} {path}: {}", answer.status());
                assert_ne!(answer.status(), StatusCode::NOT_FOUND, "{method} {path}");
                if is_refused {
                    assert_eq!(allowed(&answer), wanted, "{method} {path}");
                }
            }
        }
    }

    #[test]
    fn what_is_answered_here_is_described() {
        let document = document();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in METHODS.iter().filter(|m| item.get(m.to_lowercase()).is_some()) {
                let status = answer(method, path).status();
                let described = item[method.to_lowercase()]["responses"].as_object().unwrap();
                assert!(described.contains_key(status.as_str()), "{method} {path}: {status}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_component_is_referred_to() {
        let document = document();
        let mut found = BTreeSet::new();
        fn walk(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(all) => {
                    if let Some(target) = all.get("$ref").and_then(Value::as_str) {
                        found.insert(target.to_owned());
                    }
                    all.values().for_each(|value| walk(value, found));
                }
                Value::Array(all) => all.iter().for_each(|value| walk(value, found)),
                _ => {}
            }
        }
        walk(&document, &mut found);
        for target in &found {
            assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
        }
        for kind in ["parameters", "headers", "responses", "schemas"] {
            for name in document["components"][kind].as_object().unwrap().keys() {
                let target = format!("#/components/{kind}/{name}");
                assert!(found.contains(&target), "nothing refers to {target}");
            }
        }
    }

    #[test]
    fn bounds_and_version_are_those_in_force() {
        use plimsoll_config::defaults::{MOST, MOST_PRIORITY, MOST_WEIGHT};
        let document = document();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["Weight"]["maximum"], MOST_WEIGHT);
        for schema in ["NewServer", "Settings"] {
            let properties = &schemas[schema]["properties"];
            assert_eq!(properties["priority"]["maximum"], MOST_PRIORITY);
            assert_eq!(properties["max_requests"]["maximum"], MOST);
        }
        let states = plimsoll_config::model::ServerState::ALL.map(|state| state.as_str());
        assert_eq!(schemas["State"]["enum"], serde_json::json!(states));
        let counts = &schemas["Counts"]["properties"];
        let codes: Vec<&str> =
            counts["codes"]["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(codes, plimsoll_proxy::CODES);
        assert_eq!(counts["durations"]["minItems"], plimsoll_proxy::BOUNDS.len() + 1);
    }
}
