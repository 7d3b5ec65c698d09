//! The web UI's files, from memory: reading each from disk costs more than the
//! whole rest of the answer. Unknown pages get `index.html`, since the UI draws
//! its own paths.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
        CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, VARY,
    },
    request::Parts,
};
use http_body_util::Full;
use tonic::body::Body;

use crate::refusal::Refusal;

pub mod load;

use load::{File, Files};

/// Nothing but the UI's own files, no inline code or style, no frame.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const INDEX: &str = "/index.html";
const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><title>AssetTrack</title><h1>The web UI is not built</h1>\
    <p>The API works: see <a href=\"/v1/overview\">/v1/overview</a>. To build the UI, run <code>npm ci</code> and \
    <code>npm run build</code> in <code>webui/</code>, and start the gateway with \
    <code>--ui-dir webui/dist</code> (ASSETTRACK_UI_DIR). <code>cargo xtask up</code> does both.</p></html>\n";

/// The files, and where they come from.
#[derive(Debug)]
pub struct Ui {
    folder: Option<PathBuf>,
    files: RwLock<Arc<Files>>,
}

impl Ui {
    /// Loads the folder into memory. A folder that is not there, or has no
    /// `index.html`, is looked for again with each page.
    pub fn load(folder: Option<PathBuf>) -> Self {
        let files = folder.as_deref().map_or_else(Files::default, |folder| {
            load::files(folder).unwrap_or_else(|error| {
                tracing::warn!(folder = %folder.display(), %error, "the web UI's files cannot be loaded");
                Files::default()
            })
        });
        Self { folder, files: RwLock::new(Arc::new(files)) }
    }

    /// Answers a request for a file or a page.
    ///
    /// # Errors
    /// 405 for anything but GET and HEAD, 404 for a file that is not there.
    pub async fn answer(&self, request: &Parts) -> Result<Response<Body>, Refusal> {
        let is_head = request.method == Method::HEAD;
        if request.method != Method::GET && !is_head {
            return Err(Refusal::method_not_allowed("GET, HEAD"));
        }
        let path = request.uri.path();
        let wanted = if path == "/" { INDEX } else { path };
        let mut files = self.files();
        let is_page = !files.by_path.contains_key(wanted)
            && accepts_html(&request.headers)
            && !path.starts_with("/static/");
        if is_page || wanted == INDEX {
            files = self.fresh().await;
        }
        let found = files.by_path.get(wanted).map(|file| (wanted, file));
        let page = || files.by_path.get(INDEX).filter(|_| is_page).map(|file| (INDEX, file));
        match found.or_else(page) {
            Some((path, file)) => Ok(respond(path, file, &request.headers, is_head)),
            None if is_page || wanted == INDEX => Ok(not_built()),
            None => Err(Refusal::unknown_path(path)),
        }
    }

    fn files(&self) -> Arc<Files> {
        Arc::clone(&self.files.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The files, loaded again if `index.html` is another than before, as
    /// after a build during development or an upgrade in place.
    async fn fresh(&self) -> Arc<Files> {
        let files = self.files();
        let Some(folder) = self.folder.clone() else { return files };
        // A build in progress has no index.html: the old files stay.
        let Ok(about) = tokio::fs::metadata(folder.join("index.html")).await else { return files };
        if about.modified().ok() == files.index_modified {
            return files;
        }
        match tokio::task::spawn_blocking(move || load::files(&folder)).await {
            Ok(Ok(loaded)) => {
                let loaded = Arc::new(loaded);
                *self.files.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&loaded);
                loaded
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the web UI's files cannot be loaded again");
                files
            }
            Err(_) => files,
        }
    }
}

fn respond(path: &str, file: &File, asked: &HeaderMap, is_head: bool) -> Response<Body> {
    let unchanged = asked.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(|tags| {
        tags.split(',').any(
            |tag| matches!(tag.trim().trim_start_matches("W/"), known if known == file.etag || known == "*"),
        )
    });
    let gzip = file.gzip.as_ref().filter(|_| accepts_gzip(asked));
    let content = gzip.unwrap_or(&file.content);
    let body = if is_head || unchanged { Body::empty() } else { Body::new(Full::new(content.clone())) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    // The build names these by their content.
    let caching =
        if path.starts_with("/static/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(etag) = HeaderValue::from_str(&file.etag) {
        headers.insert(ETAG, etag);
    }
    if file.gzip.is_some() {
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
    if gzip.is_some() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    secure(headers);
    response
}

fn not_built() -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from(NOT_BUILT)));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    secure(headers);
    response
}

fn secure(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip")
            && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

#[cfg(test)]
mod tests;
