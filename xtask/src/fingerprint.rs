//! Has anything below this directory changed?

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::error::{Context, Error};

/// Directories that hold no sources, wherever they are.
const NO_SOURCES: [&str; 6] = [".git", ".local", "dist", "node_modules", "target", "bench"];

/// Time and size of each source file.
pub type Snapshot = BTreeMap<PathBuf, (SystemTime, u64)>;

/// A hash over names and contents of all files below a directory, sources only.
pub fn contents(directory: &Path) -> Result<u64, Error> {
    let mut hasher = DefaultHasher::new();
    for path in snapshot(directory, |_| true).on("read", directory)?.into_keys() {
        path.strip_prefix(directory).unwrap_or(&path).hash(&mut hasher);
        fs::read(&path).on("read", &path)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// A hash over one file.
pub fn file(path: &Path) -> Result<u64, Error> {
    let mut hasher = DefaultHasher::new();
    fs::read(path).on("read", path)?.hash(&mut hasher);
    Ok(hasher.finish())
}

/// Time and size of all source files below a directory that `wanted` picks.
pub fn snapshot(directory: &Path, wanted: impl Fn(&Path) -> bool) -> io::Result<Snapshot> {
    let mut found = Snapshot::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            // A file may go between the two looks; editors do that.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                let skipped = entry.file_name().to_str().is_some_and(|name| NO_SOURCES.contains(&name));
                if !skipped {
                    pending.push(path);
                }
            } else if metadata.is_file() && wanted(&path) {
                found.insert(path, (metadata.modified()?, metadata.len()));
            }
        }
    }
    Ok(found)
}

/// Files that came, went or changed between two looks.
pub fn changes<'a>(before: &'a Snapshot, after: &'a Snapshot) -> Vec<&'a Path> {
    let came_or_changed =
        after.iter().filter(|(path, stamp)| before.get(*path) != Some(stamp)).map(|(path, _)| path);
    let went = before.keys().filter(|path| !after.contains_key(*path));
    came_or_changed.chain(went).map(PathBuf::as_path).collect()
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process::id};

    use super::{changes, contents, snapshot};

    #[test]
    fn sources_count_and_products_do_not() {
        let root = env::temp_dir().join(format!("assettrack-fingerprint-{}", id()));
        fs::create_dir_all(root.join("src")).unwrap();
        fs::create_dir_all(root.join("node_modules")).unwrap();
        fs::write(root.join("src/a"), "1").unwrap();
        let (hash, files) = (contents(&root).unwrap(), snapshot(&root, |_| true).unwrap());

        fs::write(root.join("node_modules/b"), "2").unwrap();
        assert_eq!(contents(&root).unwrap(), hash);
        assert!(changes(&files, &snapshot(&root, |_| true).unwrap()).is_empty());

        fs::rename(root.join("src/a"), root.join("src/c")).unwrap();
        assert_ne!(contents(&root).unwrap(), hash);
        let after = snapshot(&root, |_| true).unwrap();
        assert_eq!(changes(&files, &after), [root.join("src/c"), root.join("src/a")]);
        fs::remove_dir_all(&root).unwrap();
    }
}
