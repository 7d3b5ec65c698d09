//! The web UI's files beside the API, over both versions of HTTP.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use http::Request;

use crate::support::{System, Version};

#[tokio::test]
async fn pages_and_files_beside_the_api() {
    let folder = std::env::temp_dir().join(format!("assettrack-gateway-{}", uuid::Uuid::now_v7()));
    fs::create_dir_all(folder.join("static")).unwrap();
    fs::write(folder.join("index.html"), "<!doctype html>page").unwrap();
    fs::write(folder.join("static/app-1.js"), "1").unwrap();
    let system = System::with(&[], Some(PathBuf::from(&folder))).await;
    for version in [Version::One, Version::Two] {
        for (target, accept, status, body) in [
            ("/", "text/html", 200, "<!doctype html>page"),
            ("/assets/3f2a?tab=x", "text/html", 200, "<!doctype html>page"),
            ("/static/app-1.js", "*/*", 200, "1"),
            ("/static/app-2.js", "text/html", 404, ""),
            ("/v1/nothing", "text/html", 404, ""),
        ] {
            let request = Request::get(target).header("accept", accept).body(Bytes::new()).unwrap();
            let answer = system.send(version, request).await;
            assert_eq!(answer.status.as_u16(), status, "{target}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{target}");
            if status == 200 {
                assert_eq!(answer.body, body, "{target}");
                assert!(
                    answer.header("content-security-policy").contains("frame-ancestors 'none'"),
                    "{target}"
                );
            } else {
                assert_eq!(answer.json()["error"]["status"], "NOT_FOUND", "{target}");
            }
        }
    }
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn without_files_a_page_says_how_to_build_them() {
    let system = System::start().await;
    let answer = system
        .send(Version::One, Request::get("/").header("accept", "text/html").body(Bytes::new()).unwrap())
        .await;
    assert_eq!(answer.status.as_u16(), 404);
    assert!(String::from_utf8(answer.body.to_vec()).unwrap().contains("npm run build"));
}
