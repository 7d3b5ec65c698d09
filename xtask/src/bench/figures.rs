//! Figures of a run, beside those of a rival and the bar that was set: as JSON to
//! keep and as a table to read.

use std::{fs, io::ErrorKind, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    bench::statistics::Sample,
    error::{Context, Error},
    state::write_atomically,
};

/// One run of a suite.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Run {
    /// What was measured; ends with `-dirty` when files differed from it.
    pub commit: String,
    pub machine: Machine,
    /// Programs and their versions, name first.
    pub versions: Vec<(String, String)>,
    /// What the node had to show, and what could not be had.
    pub load: Vec<String>,
    pub figures: Vec<Figure>,
}

/// Where it was measured. No name of it, so that results can be published.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
}

/// One figure.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: String,
    /// Least and most of what `value` was taken from.
    pub spread: Option<(f64, f64)>,
    pub rival: Option<String>,
    pub rival_value: Option<f64>,
    /// How many times better ours is: the rival's value by ours, or for rates ours
    /// by the rival's.
    pub ratio: Option<f64>,
    /// What was promised.
    pub bar: Option<String>,
    pub met: Option<bool>,
}

impl Figure {
    /// A figure of which the median counts.
    pub fn median(name: &str, unit: &str, sample: &Sample) -> Self {
        Self { spread: Some((sample.least(), sample.most())), ..Self::of(name, unit, sample.median()) }
    }

    /// A single value.
    pub fn of(name: &str, unit: &str, value: f64) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            spread: None,
            rival: None,
            rival_value: None,
            ratio: None,
            bar: None,
            met: None,
        }
    }

    /// Beside what a rival came to.
    pub fn beside(mut self, rival: &str, value: f64) -> Self {
        self.rival = Some(rival.to_owned());
        self.rival_value = Some(value);
        self.ratio = (self.value > 0.0).then(|| value / self.value);
        self
    }

    /// Beside what a rival came to, where more is better.
    pub fn ahead_of(mut self, rival: &str, value: f64) -> Self {
        self.rival = Some(rival.to_owned());
        self.rival_value = Some(value);
        self.ratio = (value > 0.0).then(|| self.value / value);
        self
    }

    /// Against a bar, which is met or not.
    pub fn against(mut self, bar: &str, met: bool) -> Self {
        self.bar = Some(bar.to_owned());
        self.met = Some(met);
        self
    }
}

/// Puts a run before those that a file holds already.
pub fn keep<R: Clone + DeserializeOwned + Serialize>(path: &Path, run: &R) -> Result<(), Error> {
    let mut runs: Vec<R> = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|source| Error::ForeignResults { path: path.display().to_string(), source })?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).on("read", path),
    };
    runs.insert(0, run.clone());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).on("make", directory)?;
    }
    write_atomically(path, &runs)
}

/// The run for a person.
pub fn table(run: &Run) -> String {
    let Machine { processor, cores, memory_mib, kernel } = &run.machine;
    let mut text = format!(
        "commit {}\nmachine: {processor}, {cores} cores, {memory_mib} MiB, Linux {kernel}\n",
        run.commit
    );
    for (program, version) in &run.versions {
        text.push_str(&format!("  {program} {version}\n"));
    }
    for line in &run.load {
        text.push_str(&format!("load: {line}\n"));
    }
    let rows: Vec<[String; 7]> = run.figures.iter().map(row).collect();
    let heads = ["FIGURE", "VALUE", "SPREAD", "RIVAL", "ITS VALUE", "RATIO", "BAR"].map(str::to_owned);
    let all: Vec<&[String; 7]> = std::iter::once(&heads).chain(&rows).collect();
    let widths: Vec<usize> = (0..7)
        .map(|column| all.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
        .collect();
    text.push('\n');
    for row in all {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Words to the left, numbers to the right.
            match column {
                0 | 3 | 6 => line.push_str(&format!("{cell:<width$}  ")),
                _ => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(figure: &Figure) -> [String; 7] {
    let bar = match (&figure.bar, figure.met) {
        (Some(bar), Some(true)) => format!("{bar}: met"),
        (Some(bar), Some(false)) => format!("{bar}: NOT MET"),
        _ => String::new(),
    };
    let unit = if figure.unit.is_empty() { String::new() } else { format!(" {}", figure.unit) };
    [
        figure.name.clone(),
        format!("{}{unit}", number(figure.value)),
        figure.spread.map(|(least, most)| format!("{}–{}", number(least), number(most))).unwrap_or_default(),
        figure.rival.clone().unwrap_or_default(),
        figure.rival_value.map(number).unwrap_or_default(),
        figure.ratio.map(|ratio| format!("{ratio:.1}x")).unwrap_or_default(),
        bar,
    ]
}

/// Three digits that count, or whole numbers.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        _ if value.fract() == 0.0 => 0,
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process::id};

    use super::{Figure, Machine, Run, keep, number, table};
    use crate::{bench::statistics::Sample, error::Error};

    fn run(commit: &str) -> Run {
        let memory = Sample::new(vec![9.5, 9.0, 12.25]).unwrap();
        Run {
            commit: commit.to_owned(),
            machine: Machine {
                processor: "Some CPU".to_owned(),
                cores: 2,
                memory_mib: 24_105,
                kernel: "6.18.44".to_owned(),
            },
            versions: vec![("agent".to_owned(), "0.1.0".to_owned())],
            load: vec!["1000 packages".to_owned()],
            figures: vec![
                Figure::median("memory", "MB", &memory).beside("other", 19.0).against("≤ 16 MB", true),
                Figure::of("slowness", "s", 3.0).against("< 1 s", false),
                Figure::of("found", "", 1000.0),
            ],
        }
    }

    #[test]
    fn a_run_is_put_before_the_earlier_ones_and_foreign_files_stay() {
        let directory = env::temp_dir().join(format!("assettrack-figures-{}", id()));
        let path = directory.join("agent.json");
        keep(&path, &run("a")).unwrap();
        keep(&path, &run("b")).unwrap();
        let runs: Vec<Run> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(runs, [run("b"), run("a")]);
        fs::write(&path, "{}").unwrap();
        assert!(matches!(keep(&path, &run("c")), Err(Error::ForeignResults { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"{}");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_json_has_the_documented_names() {
        let value = serde_json::to_value(run("a")).unwrap();
        assert_eq!(
            value["figures"][0],
            serde_json::json!({
                "name": "memory", "value": 9.5, "unit": "MB", "spread": [9.0, 12.25],
                "rival": "other", "rival_value": 19.0, "ratio": 2.0, "bar": "≤ 16 MB", "met": true,
            })
        );
        assert_eq!(value["machine"]["cores"], 2);
    }

    #[test]
    fn the_table_shows_what_is_met_and_what_is_not() {
        let text = table(&run("abc"));
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert_eq!(line("memory"), "memory    9.50 MB  9–12.2  other         19   2.0x  ≤ 16 MB: met");
        assert_eq!(line("slowness"), "slowness      3 s                                   < 1 s: NOT MET");
        assert_eq!(line("found").trim_end(), "found        1000");
        assert!(text.starts_with("commit abc\nmachine: Some CPU, 2 cores, 24105 MiB, Linux 6.18.44\n"));
    }

    #[test]
    fn numbers_are_shown_with_three_digits_that_count() {
        let cases =
            [(0.0, "0"), (0.1234, "0.123"), (1.5, "1.50"), (15.66, "15.7"), (1028.4, "1028"), (7.0, "7")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        assert_eq!(Figure::of("cpu", "%", 0.0).beside("other", 1.0).ratio, None);
    }
}
