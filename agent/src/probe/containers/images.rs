//! Images on the node, and the packages in those that are run.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use contracts::v1::{ContainerImageDetails, asset_details::Details};

use super::cgroup::{self, Member, is_id};
use super::{Containers, contents, task_folders};
use crate::asset::ScannedAsset;
use crate::cri::{self, Answer, v1};
use crate::host::HostRoot;
use crate::probe::{ProbeError, Scan};

/// After this long, or this many packages, what is not read yet waits for the
/// next scan: neither time nor memory may grow with the number of new images.
const LONGEST_READING: Duration = Duration::from_secs(8);
const MOST_PACKAGES: usize = 4000;

impl Containers {
    /// Images that the runtime keeps. Without one there is none to be told of.
    pub(in crate::probe) fn images(&self, host: &HostRoot) -> Result<Scan, ProbeError> {
        let answer =
            self.ask(host, async |client| Ok((client.images().await?, client.containers().await?)))?;
        let (images, containers) = match answer {
            Answer::Told(told) => told,
            Answer::Absent(why) => {
                let warnings = why.map(|why| format!("{why}; images are not found")).into_iter().collect();
                return Ok(Scan { warnings, ..Scan::default() });
            }
            Answer::Refused(why) => {
                let path = cri::socket(host, &self.settings).unwrap_or_default();
                let problem = why.trim_start_matches(&format!("{path}: ")).to_owned();
                return Err(ProbeError::Runtime { path, problem });
            }
        };
        let mut scan = Scan { assets: into_assets(&images), ..Scan::default() };
        self.read_contents(host, &images, &containers, &mut scan)?;
        Ok(scan)
    }

    fn read_contents(
        &self,
        host: &HostRoot,
        images: &[v1::Image],
        containers: &[v1::Container],
        scan: &mut Scan,
    ) -> Result<(), ProbeError> {
        // Container of each image whose contents are not known.
        let mut unknown: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for container in containers {
            let listed = container.image.as_ref().map_or("", |image| image.image.as_str());
            if container.state() == v1::ContainerState::ContainerRunning
                && let Some(digest) = digest_of(images, &[&container.image_ref, listed])
            {
                unknown.entry(digest).or_default().push(&container.id);
            }
        }
        unknown.retain(|digest, _| !(self.knows_image)(digest));
        if unknown.is_empty() {
            return Ok(());
        }
        let tasks = task_folders(&self.settings);
        let members = cgroup::running(host, &tasks)?;
        let mut unreadable = std::mem::take(&mut self.memory().unreadable);
        unreadable.retain(|digest, _| unknown.contains_key(digest));
        let members: HashMap<&str, &Member> =
            members.iter().map(|member| (member.placement.id.as_str(), member)).collect();
        let (began, mut packages) = (Instant::now(), 0);
        for (digest, ids) in unknown {
            if began.elapsed() > LONGEST_READING || packages > MOST_PACKAGES {
                break;
            }
            let mut problem = unreadable.get(&digest).cloned();
            let attempts: &[&str] = if problem.is_some() { &[] } else { &ids };
            for member in attempts.iter().filter_map(|id| members.get(id)) {
                match contents::read(host, member, &tasks, &digest, &mut scan.warnings) {
                    Ok(contents) => {
                        packages += contents.packages.len();
                        scan.contents.push(contents);
                        problem = None;
                        break;
                    }
                    Err(error) => {
                        let is_lasting = error.is_lasting;
                        if is_lasting {
                            unreadable.insert(digest.clone(), error.text.clone());
                        }
                        problem = Some(error.text);
                        if is_lasting {
                            break;
                        }
                    }
                }
            }
            // Without a process it has ended meanwhile.
            if let Some(problem) = problem {
                scan.warnings.push(format!("packages in image {digest}: {problem}"));
            }
        }
        self.memory().unreadable = unreadable;
        Ok(())
    }
}

/// One asset a digest, whatever the number of its names.
fn into_assets(images: &[v1::Image]) -> Vec<ScannedAsset> {
    let mut by_digest: BTreeMap<String, ContainerImageDetails> = BTreeMap::new();
    for image in images {
        let digest = digest(image);
        let details = by_digest.entry(digest.clone()).or_insert_with(|| ContainerImageDetails {
            digest,
            image_id: with_algorithm(&image.id),
            size_bytes: image.size,
            ..ContainerImageDetails::default()
        });
        details.tags.extend(image.repo_tags.iter().cloned());
        details.repo_digests.extend(image.repo_digests.iter().cloned());
        details.pinned |= image.pinned;
    }
    let asset = |mut details: ContainerImageDetails| {
        for names in [&mut details.tags, &mut details.repo_digests] {
            names.sort();
            names.dedup();
        }
        let repository = details.repo_digests.first().and_then(|name| name.split('@').next());
        let name = details.tags.first().map(String::as_str).or(repository).unwrap_or(&details.digest);
        let name = name.to_owned();
        ScannedAsset::new(details.digest.clone(), name, Details::ContainerImage(details))
    };
    by_digest.into_values().map(asset).collect()
}

/// The digest of the manifest, under which a registry has it; of its
/// configuration, which the runtime takes for the ID, where none ever had it.
fn digest(image: &v1::Image) -> String {
    let digests = image.repo_digests.iter().filter_map(|name| Some(name.rsplit_once('@')?.1));
    digests.min().map_or_else(|| with_algorithm(&image.id), str::to_owned)
}

/// CRI-O gives IDs without what they were made by.
fn with_algorithm(id: &str) -> String {
    if is_id(id) { format!("sha256:{id}") } else { id.to_owned() }
}

/// Digest of the image that one of these names, IDs or references means.
pub(super) fn digest_of(images: &[v1::Image], references: &[&str]) -> Option<String> {
    for reference in references.iter().filter(|reference| !reference.is_empty()) {
        let id = with_algorithm(reference);
        let is_meant = |image: &&v1::Image| {
            with_algorithm(&image.id) == id
                || image.repo_digests.iter().chain(&image.repo_tags).any(|name| name == reference)
        };
        if let Some(image) = images.iter().find(is_meant) {
            return Some(digest(image));
        }
    }
    // An image that was removed from the list while a container runs from it.
    references.iter().find_map(|reference| {
        let digest = reference.rsplit_once('@').map_or(*reference, |(_, digest)| digest);
        digest.starts_with("sha256:").then(|| digest.to_owned())
    })
}
