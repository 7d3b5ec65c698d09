//! crontab(5) and anacrontab(5): of each job when it runs and as whom, and
//! nothing else.

use crate::text::clean;

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    /// Five fields with one blank between, or a word such as `@daily`.
    pub(super) schedule: String,
    pub(super) user: String,
}

/// As whom the jobs of a crontab run.
#[derive(Clone, Copy)]
pub(super) enum Users<'a> {
    /// As its lines say, after the schedule.
    InLines,
    /// All as one.
    All(&'a str),
}

const WORDS: [&str; 9] = [
    "@reboot",
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
    "@every_minute",
];

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 8] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Least and most number of each field, and the names that stand for numbers.
const FIELDS: [(u32, u32, &[&str]); 5] =
    [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, &MONTHS), (0, 7, &DAYS)];

/// The jobs, and how many lines are neither job nor setting nor comment.
pub(super) fn parse_crontab(text: &[u8], users: Users<'_>) -> (Vec<Job>, usize) {
    jobs(text, |line| crontab_job(line, users))
}

/// As [`parse_crontab`]: `period delay name command` (anacrontab(5)).
pub(super) fn parse_anacrontab(text: &[u8]) -> (Vec<Job>, usize) {
    jobs(text, anacron_job)
}

fn jobs(text: &[u8], parse: impl Fn(&str) -> Option<Job>) -> (Vec<Job>, usize) {
    let (mut jobs, mut wrong) = (Vec::new(), 0);
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() || line[0] == b'#' || is_setting(line) {
            continue;
        }
        match parse(&clean(line)) {
            Some(job) => jobs.push(job),
            None => wrong += 1,
        }
    }
    (jobs, wrong)
}

/// `NAME = value`, the name perhaps in quotation marks: load_env of cron. A
/// blank may stand on both sides of the equals sign.
fn is_setting(line: &[u8]) -> bool {
    let rest = match line[0] {
        quote @ (b'"' | b'\'') => {
            let Some(end) = line[1..].iter().position(|&byte| byte == quote) else { return false };
            &line[end + 2..]
        }
        _ => {
            let end = line.iter().position(|&byte| byte == b'=' || byte.is_ascii_whitespace());
            &line[end.unwrap_or(line.len())..]
        }
    };
    rest.trim_ascii_start().first() == Some(&b'=')
}

fn crontab_job(line: &str, users: Users<'_>) -> Option<Job> {
    // SUSE: no entry in the system's log for this job.
    let line = line.strip_prefix('-').unwrap_or(line);
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let schedule = if first.starts_with('@') {
        WORDS.contains(&first).then(|| first.to_owned())?
    } else {
        let mut fields = vec![first];
        fields.extend(words.by_ref().take(4));
        let valid = fields.len() == FIELDS.len()
            && fields.iter().zip(FIELDS).all(|(field, (least, most, names))| {
                field.split(',').all(|part| is_range(part, least, most, names))
            });
        valid.then(|| fields.join(" "))?
    };
    let user = match users {
        Users::InLines => words.next().filter(|user| is_user(user))?,
        Users::All(user) => user,
    };
    // Without a command it is no job.
    words.next()?;
    Some(Job { schedule, user: user.to_owned() })
}

fn anacron_job(line: &str) -> Option<Job> {
    let mut words = line.split_whitespace();
    let (period, delay, _name, _command) = (words.next()?, words.next()?, words.next()?, words.next()?);
    delay.parse::<u32>().ok()?;
    let schedule = if period.starts_with('@') {
        WORDS.contains(&period).then(|| period.to_owned())?
    } else {
        match period.parse::<u32>().ok()? {
            1 => "@daily".to_owned(),
            7 => "@weekly".to_owned(),
            days => format!("every {days} days"),
        }
    };
    Some(Job { schedule, user: "root".to_owned() })
}

/// `*`, `5`, `mon-fri`, `*/10`, `10-20/5`; `10~20` and `~` for a random number
/// of cronie.
fn is_range(part: &str, least: u32, most: u32, names: &[&str]) -> bool {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    if step.is_some_and(|step| step.parse::<u32>().map_or(true, |step| step == 0)) {
        return false;
    }
    let number = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        match named {
            Some(place) => u32::try_from(place).ok().map(|place| place + least),
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            None => None,
        }
        .filter(|number| (least..=most).contains(number))
    };
    if let Some((from, to)) = range.split_once('~') {
        return [from, to].iter().all(|end| end.is_empty() || number(end).is_some());
    }
    match range.split_once('-') {
        Some((from, to)) => number(from).is_some() && number(to).is_some(),
        // A step needs a range.
        None => range == "*" || (step.is_none() && number(range).is_some()),
    }
}

/// What can be a name: a line that lacks the user has its command here, which
/// must not be taken for one.
fn is_user(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && word.chars().all(|c| c.is_alphanumeric() || "_.-$@\\".contains(c))
}
