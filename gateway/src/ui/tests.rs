//! The web UI's files from a folder of the test's own.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use http::Request;
use http_body_util::BodyExt;

use super::*;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("assettrack-ui-{}", uuid::Uuid::now_v7()));
        fs::create_dir_all(path.join("static")).unwrap();
        Self(path)
    }

    fn with_files() -> Self {
        let folder = Self::new();
        folder.write("index.html", "<!doctype html>one");
        folder.write("static/app-1.js", &"let x = 1;\n".repeat(500));
        folder.write("static/dot-2.png", "png");
        folder
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.0.join(name), content).unwrap();
    }

    fn path(&self) -> Option<PathBuf> {
        Some(Path::new(&self.0).to_owned())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn ask(
    ui: &Ui,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (http::response::Parts, Vec<u8>) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = ui.answer(&request.body(()).unwrap().into_parts().0).await.unwrap_or_else(|refusal| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = refusal.http;
        response
    });
    let (parts, body) = response.into_parts();
    (parts, body.collect().await.unwrap().to_bytes().to_vec())
}

const HTML: (&str, &str) = ("accept", "text/html,*/*");

#[tokio::test]
async fn files_pages_and_what_is_neither() {
    let folder = Folder::with_files();
    let ui = Ui::load(folder.path());
    for (method, path, headers, status, content_type) in [
        ("GET", "/", &[][..], 200, "text/html; charset=utf-8"),
        ("GET", "/index.html", &[], 200, "text/html; charset=utf-8"),
        ("GET", "/assets/3f", &[HTML], 200, "text/html; charset=utf-8"),
        ("GET", "/static/app-1.js", &[], 200, "text/javascript; charset=utf-8"),
        ("GET", "/static/dot-2.png", &[], 200, "image/png"),
        ("GET", "/static/gone.js", &[HTML], 404, ""),
        ("GET", "/favicon.ico", &[("accept", "image/*")], 404, ""),
        ("GET", "/../../etc/passwd", &[], 404, ""),
        ("GET", "/%2e%2e/secret", &[], 404, ""),
        ("POST", "/", &[HTML], 405, ""),
    ] {
        let (parts, _) = ask(&ui, method, path, headers).await;
        assert_eq!(parts.status.as_u16(), status, "{method} {path}");
        let found = parts.headers.get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap());
        assert_eq!(found, content_type, "{method} {path}");
    }
}

#[tokio::test]
async fn pages_are_guarded_and_static_files_kept_for_ever() {
    let folder = Folder::with_files();
    let ui = Ui::load(folder.path());
    let (page, body) = ask(&ui, "GET", "/nodes", &[HTML]).await;
    assert_eq!(body, b"<!doctype html>one");
    let policy = page.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(page.headers[CACHE_CONTROL], "no-cache");
    let (script, _) = ask(&ui, "GET", "/static/app-1.js", &[]).await;
    assert_eq!(script.headers[CACHE_CONTROL], "public, max-age=31536000, immutable");
}

#[tokio::test]
async fn what_the_browser_has_is_not_sent_again() {
    let folder = Folder::with_files();
    let ui = Ui::load(folder.path());
    let (first, _) = ask(&ui, "GET", "/static/app-1.js", &[]).await;
    let etag = first.headers[ETAG].to_str().unwrap().to_owned();
    let (again, body) =
        ask(&ui, "GET", "/static/app-1.js", &[("if-none-match", &format!("\"x\", W/{etag}"))]).await;
    assert_eq!((again.status.as_u16(), body.len()), (304, 0));
    let (other, _) = ask(&ui, "GET", "/static/app-1.js", &[("if-none-match", "\"x\"")]).await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn text_is_compressed_for_those_who_take_it() {
    let folder = Folder::with_files();
    let ui = Ui::load(folder.path());
    let (plain, whole) = ask(&ui, "GET", "/static/app-1.js", &[("accept-encoding", "br, gzip;q=0")]).await;
    assert!(plain.headers.get(CONTENT_ENCODING).is_none());
    let (zipped, body) = ask(&ui, "GET", "/static/app-1.js", &[("accept-encoding", "gzip, br")]).await;
    assert_eq!(zipped.headers[CONTENT_ENCODING], "gzip");
    let mut unzipped = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(body.as_slice()), &mut unzipped).unwrap();
    assert_eq!(unzipped, whole);
    let (head, nothing) = ask(&ui, "HEAD", "/static/app-1.js", &[]).await;
    assert_eq!(
        (head.headers[CONTENT_LENGTH].to_str().unwrap(), nothing.len()),
        (whole.len().to_string().as_str(), 0)
    );
}

#[tokio::test]
async fn a_new_build_is_seen_and_one_in_progress_does_not_hurt() {
    let folder = Folder::new();
    let ui = Ui::load(folder.path());
    let (parts, body) = ask(&ui, "GET", "/", &[HTML]).await;
    assert_eq!(parts.status, 404);
    assert!(String::from_utf8(body).unwrap().contains("npm run build"));
    folder.write("index.html", "one");
    assert_eq!(ask(&ui, "GET", "/", &[HTML]).await.1, b"one");
    folder.write("index.html", "two");
    let later = SystemTime::now() + Duration::from_secs(10);
    fs::File::open(folder.0.join("index.html")).unwrap().set_modified(later).unwrap();
    assert_eq!(ask(&ui, "GET", "/", &[HTML]).await.1, b"two");
    fs::remove_file(folder.0.join("index.html")).unwrap();
    assert_eq!(ask(&ui, "GET", "/", &[HTML]).await.1, b"two");
}
