//! What the tool can be told.

use chrono::DateTime;
use clap::{Args, Parser, Subcommand, ValueEnum};
use contracts::v1::{
    AssetKind, DeadLetterReason, PackagePlace, RelationDirection, RelationType, VersionOrder,
};
use prost_types::Timestamp;

use crate::manage::args::{CustomFieldsCommand, SavedSearchesCommand, SetArguments, UndeleteArguments};

/// Reads AssetTrack's inventory through its gateway, and does what operators do.
#[derive(Debug, Parser)]
#[command(name = "assettrack", version)]
pub struct Arguments {
    /// Where the gateway is: `http://host:port`.
    #[arg(long, global = true, env = "ASSETTRACK_GATEWAY_URL", default_value = "http://127.0.0.1:8080")]
    pub gateway_url: String,
    /// How the answer is written: `table` for people, `json` as one ProtoJSON
    /// object a line, `csv` as in RFC 4180.
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Show times in UTC instead of the local zone. JSON is always in UTC.
    #[arg(long, global = true)]
    pub utc: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    Table,
    /// One ProtoJSON object a line.
    Json,
    /// RFC 4180 with a header; cells that a spreadsheet would run are defused
    /// with a leading apostrophe.
    Csv,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists assets by name.
    Assets(AssetsArguments),
    /// Shows one asset whole, or its revisions.
    Asset(AssetArguments),
    /// Shows what differs between two revisions of an asset, or between two times of
    /// one or of all.
    Diff(DiffArguments),
    /// Lists the assets that an asset relates to, the nearest first.
    Related(RelatedArguments),
    /// Sets managed fields of assets: owner, lifecycle, location, notes, labels and
    /// custom fields. All of them or none.
    Set(Box<SetArguments>),
    /// Takes the deletion of an asset back.
    Undelete(UndeleteArguments),
    /// Lists, keeps, runs or deletes searches for assets.
    #[command(subcommand)]
    SavedSearches(SavedSearchesCommand),
    /// Lists, defines or deletes custom fields of assets.
    #[command(subcommand)]
    CustomFields(CustomFieldsCommand),
    /// Lists the machines that run agents.
    Nodes,
    /// Has the agent of a node scan now.
    Scan(ScanArguments),
    /// Says that a node will not return: its assets become REMOVED.
    Retire(RetireArguments),
    /// Lists what happened, newest first.
    Events(EventsArguments),
    /// Lists the packages in a container image.
    ImagePackages(ImagePackagesArguments),
    /// Lists the container images that have a package in them.
    ImageSearch(ImageSearchArguments),
    /// Lists where packages of certain versions are: on nodes, and in images
    /// there.
    Affected(AffectedArguments),
    /// Shows the system at a glance.
    Overview,
    /// Lists, shows, replays or deletes messages that could not be applied.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Publishes to the broker what a fleet of agents would, made up from a seed.
    ///
    /// Needs no gateway. Progress goes to stderr, a report to stdout: as text, or
    /// with `--output json` as one object. Ends with status 1 if anything is not
    /// confirmed by the broker.
    Simulate(Box<assettrack_cli::simulate::Settings>),
    /// Folds the log again and compares it with the inventory. Exit status: 0 if
    /// nothing differs, 1 if something does, 2 if it could not be told.
    Verify(VerifyArguments),
}

/// For `verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// Verify one node alone: `nodes/{uuid}`, or the UUID alone.
    #[arg(long)]
    pub node: Option<String>,
}

/// For `assets`.
#[derive(Debug, Args)]
pub struct AssetsArguments {
    /// AIP-160, such as `kind=PACKAGE AND display_name:"openssl"`.
    #[arg(default_value = "")]
    pub filter: String,
    /// At most this many; all if it is not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Order, such as `kind,display_name desc`: see the API's `order_by`.
    #[arg(long, value_name = "FIELDS", default_value_t, hide_default_value = true)]
    pub order_by: String,
    /// List deleted ones too.
    #[arg(long)]
    pub show_deleted: bool,
    /// Show all, and then each one that comes, changes, or does not fit any
    /// more.
    #[arg(long, conflicts_with_all = ["limit", "order_by"])]
    pub watch: bool,
    /// As they were at this time, as in RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub as_of: Option<Timestamp>,
}

/// For `asset`.
#[derive(Debug, Args)]
pub struct AssetArguments {
    /// `assets/{uuid}`, or the UUID alone.
    pub name: String,
    /// Show its revisions instead, newest first.
    #[arg(long)]
    pub revisions: bool,
    /// As it was at this time, as in RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "revisions")]
    pub as_of: Option<Timestamp>,
}

/// For `diff`.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// One asset, by its fields: `assets/{uuid}`, or the UUID alone. All if it is not
    /// given.
    #[arg(required_unless_present = "since")]
    pub asset: Option<String>,
    /// The earlier time, as in RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "base_revision")]
    #[arg(required_unless_present = "base_revision")]
    pub since: Option<Timestamp>,
    /// The later time; now if it is not given.
    #[arg(long, value_name = "TIME", value_parser = time, requires = "since")]
    pub until: Option<Timestamp>,
    /// The earlier revision.
    #[arg(long, requires = "asset", value_parser = clap::value_parser!(i64).range(1..))]
    pub base_revision: Option<i64>,
    /// The later revision; the newest if it is not given.
    #[arg(long, requires = "base_revision", value_parser = clap::value_parser!(i64).range(1..))]
    pub revision: Option<i64>,
    /// Which assets, as for `assets`.
    #[arg(long, default_value = "", conflicts_with = "asset")]
    pub filter: String,
}

/// For `scan`.
#[derive(Debug, Args)]
pub struct ScanArguments {
    /// `nodes/{uuid}`, or the UUID alone.
    pub name: String,
    /// A kind to look for, such as `PACKAGE`; may be given more than once. All
    /// if it is not given.
    #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
    pub kinds: Vec<AssetKind>,
    /// List all in full, too, instead of what changed.
    #[arg(long)]
    pub resync: bool,
}

/// For `retire`.
#[derive(Debug, Args)]
pub struct RetireArguments {
    /// `nodes/{uuid}`, or the UUID alone.
    pub name: String,
}

/// A kind by its name, in upper or lower case.
pub fn kind(name: &str) -> Result<AssetKind, String> {
    AssetKind::from_str_name(&format!("ASSET_KIND_{}", name.to_uppercase()))
        .ok_or_else(|| "is no kind of asset; one is PACKAGE".to_owned())
}

/// For `image-packages`.
#[derive(Debug, Args)]
pub struct ImagePackagesArguments {
    /// Its asset of kind CONTAINER_IMAGE: `assets/{uuid}`, or the UUID alone.
    pub name: String,
    /// At most this many; all if it is not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// For `image-search`.
#[derive(Debug, Args)]
pub struct ImageSearchArguments {
    /// Exact name of the package, such as `openssl`.
    pub package: String,
    /// At most this many; all if it is not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// For `related`.
#[derive(Debug, Args)]
pub struct RelatedArguments {
    /// `assets/{uuid}`, or the UUID alone.
    pub name: String,
    /// Which way relations are followed: `outgoing`, `incoming` or `both`.
    #[arg(long, default_value = "both", value_parser = direction)]
    pub direction: RelationDirection,
    /// A relation to follow, such as `RUNS_IN`; may be given more than once. All
    /// if it is not given.
    #[arg(long = "type", value_name = "TYPE", value_parser = relation)]
    pub types: Vec<RelationType>,
    /// A kind to list, such as `CONTAINER`; may be given more than once. All if it
    /// is not given.
    #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
    pub kinds: Vec<AssetKind>,
    /// Most steps.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=5))]
    pub depth: i32,
    /// At most this many; all if it is not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// For `affected`.
#[derive(Debug, Args)]
pub struct AffectedArguments {
    /// Exact name of the package, or of its source package, such as `openssl`.
    pub package: String,
    /// Below this version: the one that is fixed.
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    pub below: String,
    /// From this version on.
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    pub from: String,
    /// Up to this version, which is included.
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    pub through: String,
    /// This version alone.
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    pub exact: String,
    /// Packages of this order of versions alone: `debian`, `rpm` or `apk`. If it is
    /// not given, each is compared by that of its package manager.
    #[arg(long, value_parser = version_order)]
    pub order: Option<VersionOrder>,
    /// Where to look: `node`, `container` or `image` (without a container); may be
    /// given more than once. Everywhere if it is not given.
    #[arg(long = "place", value_name = "PLACE", value_parser = package_place)]
    pub places: Vec<PackagePlace>,
    /// At most this many; all if it is not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

fn direction(name: &str) -> Result<RelationDirection, String> {
    RelationDirection::from_str_name(&format!("RELATION_DIRECTION_{}", name.to_uppercase()))
        .filter(|direction| *direction != RelationDirection::Unspecified)
        .ok_or_else(|| "is none of outgoing, incoming and both".to_owned())
}

fn relation(name: &str) -> Result<RelationType, String> {
    RelationType::from_str_name(&format!("RELATION_TYPE_{}", name.to_uppercase()))
        .filter(|relation| *relation != RelationType::Unspecified)
        .ok_or_else(|| {
            let known = (1..).map_while(|number| RelationType::try_from(number).ok());
            let known: Vec<&str> =
                known.map(|relation| relation.as_str_name().trim_start_matches("RELATION_TYPE_")).collect();
            format!("known are {}", known.join(", "))
        })
}

fn version_order(name: &str) -> Result<VersionOrder, String> {
    VersionOrder::from_str_name(&format!("VERSION_ORDER_{}", name.to_uppercase()))
        .filter(|order| *order != VersionOrder::Unspecified)
        .ok_or_else(|| "is none of debian, rpm and apk".to_owned())
}

fn package_place(name: &str) -> Result<PackagePlace, String> {
    PackagePlace::from_str_name(&format!("PACKAGE_PLACE_{}", name.to_uppercase()))
        .filter(|place| *place != PackagePlace::Unspecified)
        .ok_or_else(|| "is none of node, container and image".to_owned())
}

/// For `events`.
#[derive(Debug, Args)]
pub struct EventsArguments {
    /// AIP-160, such as `type=REMOVED AND kind=PACKAGE`.
    #[arg(default_value = "")]
    pub filter: String,
    /// At most this many; if it is not given all, or the newest 10 with
    /// --follow.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Show the newest, oldest first, and then each one that comes.
    #[arg(long)]
    pub follow: bool,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Lists them, the newest first.
    List {
        /// Which; all if nothing is given.
        #[command(flatten)]
        filter: LetterFilter,
        /// At most this many; all if it is not given.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Shows one with its content; its whole body with `--output json` alone.
    Show {
        /// `deadLetters/{uuid}`, or the UUID alone.
        name: String,
    },
    /// Puts them through ingest again; says on stderr how far it is.
    Replay {
        /// Which.
        #[command(flatten)]
        letters: Letters,
        /// At most this many messages a second, up to 10,000.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=10_000))]
        rate: i32,
        /// Confirms `--all`.
        #[arg(long)]
        yes: bool,
    },
    /// Deletes them; what they say is lost.
    Delete {
        /// Which.
        #[command(flatten)]
        letters: Letters,
        /// Only tell how many would be deleted.
        #[arg(long)]
        dry_run: bool,
        /// Confirms it.
        #[arg(long)]
        yes: bool,
    },
}

/// Which dead letters: some by name, those that the flags describe, or all.
#[derive(Debug, Args)]
pub struct Letters {
    /// `deadLetters/{uuid}`, or the UUIDs alone; at most 1,000.
    pub names: Vec<String>,
    /// Those of which all of this is true.
    #[command(flatten)]
    pub filter: LetterFilter,
    /// All.
    #[arg(long)]
    pub all: bool,
}

/// What dead letters have in common.
#[derive(Debug, Args)]
pub struct LetterFilter {
    /// Of this reason, such as `INVALID_FIELD`; may be given several times.
    #[arg(long, value_parser = reason)]
    pub reason: Vec<DeadLetterReason>,
    /// Of this node: `nodes/{uuid}`, or the UUID alone.
    #[arg(long)]
    pub node: Option<String>,
    /// From this queue.
    #[arg(long)]
    pub queue: Option<String>,
    /// First come at or after this time, as in RFC 3339.
    #[arg(long, value_parser = time)]
    pub since: Option<Timestamp>,
    /// First come before this time, as in RFC 3339.
    #[arg(long, value_parser = time)]
    pub before: Option<Timestamp>,
}

fn reason(word: &str) -> Result<DeadLetterReason, String> {
    let name = format!("DEAD_LETTER_REASON_{}", word.to_uppercase());
    DeadLetterReason::from_str_name(&name)
        .filter(|reason| *reason != DeadLetterReason::Unspecified)
        .ok_or_else(|| {
            let known = (1..).map_while(|number| DeadLetterReason::try_from(number).ok());
            let known: Vec<&str> =
                known.map(|reason| reason.as_str_name().trim_start_matches("DEAD_LETTER_REASON_")).collect();
            format!("known are {}", known.join(", "))
        })
}

fn time(text: &str) -> Result<Timestamp, String> {
    let time = DateTime::parse_from_rfc3339(text).map_err(|error| error.to_string())?;
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default();
    Ok(Timestamp { seconds: time.timestamp(), nanos })
}
