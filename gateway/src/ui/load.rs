//! Reads the web UI's files into memory, compressed where that helps.

use std::{collections::HashMap, fs, io, io::Write, path::Path, time::SystemTime};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

/// More than this is no web UI, but a wrong folder.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Below this gzip does not pay.
const MIN_GZIP_BYTES: usize = 1024;

/// All files by URL path.
#[derive(Debug, Default)]
pub struct Files {
    /// By path, such as `/static/app.js`.
    pub by_path: HashMap<String, File>,
    /// When `index.html` was last written; none if it is not there.
    pub index_modified: Option<SystemTime>,
}

/// One file.
#[derive(Debug)]
pub struct File {
    /// By its extension.
    pub content_type: &'static str,
    /// As it is.
    pub content: Bytes,
    /// Compressed, where that is smaller.
    pub gzip: Option<Bytes>,
    /// Quoted hash of the content.
    pub etag: String,
}

/// Loads a folder with all below it.
///
/// # Errors
/// It cannot be read, or holds more than 64 MiB.
pub fn files(folder: &Path) -> io::Result<Files> {
    // Before the files: one that changes meanwhile is then loaded once more.
    let index_modified = fs::metadata(folder.join("index.html")).and_then(|about| about.modified()).ok();
    let mut files = Files { by_path: HashMap::new(), index_modified };
    let mut left = MAX_BYTES;
    add(folder, "", &mut files, &mut left)?;
    Ok(files)
}

fn add(folder: &Path, prefix: &str, files: &mut Files, left: &mut u64) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (path, about) = (format!("{prefix}/{name}"), entry.metadata()?);
        if about.is_dir() {
            add(&entry.path(), &path, files, left)?;
        } else if about.is_file() {
            *left = left.checked_sub(about.len()).ok_or_else(|| {
                io::Error::new(io::ErrorKind::FileTooLarge, format!("holds more than {MAX_BYTES} bytes"))
            })?;
            let content = fs::read(entry.path())?;
            files.by_path.insert(path, file(&name, content)?);
        }
    }
    Ok(())
}

fn file(name: &str, content: Vec<u8>) -> io::Result<File> {
    let (content_type, is_text) = content_type(name);
    let digest = Sha256::digest(&content);
    let etag =
        digest.iter().take(16).fold(String::from("\""), |text, byte| format!("{text}{byte:02x}")) + "\"";
    let mut gzip = None;
    if is_text && content.len() >= MIN_GZIP_BYTES {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&content)?;
        gzip = Some(encoder.finish()?).filter(|smaller| smaller.len() < content.len()).map(Bytes::from);
    }
    Ok(File { content_type, content: content.into(), gzip, etag })
}

fn content_type(name: &str) -> (&'static str, bool) {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => ("text/html; charset=utf-8", true),
        "js" | "mjs" => ("text/javascript; charset=utf-8", true),
        "css" => ("text/css; charset=utf-8", true),
        "json" | "map" => ("application/json", true),
        "webmanifest" => ("application/manifest+json", true),
        "svg" => ("image/svg+xml", true),
        "txt" => ("text/plain; charset=utf-8", true),
        "png" => ("image/png", false),
        "ico" => ("image/x-icon", false),
        "webp" => ("image/webp", false),
        "woff2" => ("font/woff2", false),
        _ => ("application/octet-stream", false),
    }
}
