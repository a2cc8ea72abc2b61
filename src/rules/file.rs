//! A file of rules: TOML, read with all its faults at once, each with its line and column.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Source};
use super::media::MediaFile;
use super::overlap;
use super::schedule::UtcOffset;
use super::template::Groups;
use super::{Rule, Rulebook};
use crate::api::MediaKind;

mod conditions;
mod saying;
mod value;

/// Far more than anybody writes by hand.
const MOST_BYTES: u64 = 4 << 20;
const MOST_NAME_CHARS: usize = 64;

/// What was found in a file of rules.
#[derive(Debug)]
pub struct Reading {
    /// The rules, or all that is wrong with the file.
    pub rules: Result<Rulebook, Vec<Fault>>,
    /// What is allowed and surely not meant, in the order of the file.
    pub warnings: Vec<Fault>,
    /// The files that the rules name, those too that can't be read.
    pub(super) named: Vec<PathBuf>,
}

/// Reads a file of rules, and looks at the files it names.
pub fn read(path: &Path) -> Reading {
    let file = path.display().to_string();
    match text_of(path) {
        Ok(text) => parse(&text, &file, path.parent().unwrap_or(Path::new(""))),
        Err(why) => Reading {
            rules: Err(vec![Fault::of_file(&file, why)]),
            warnings: Vec::new(),
            named: Vec::new(),
        },
    }
}

fn text_of(path: &Path) -> Result<String, String> {
    let cant = |error: std::io::Error| format!("can't be read: {error}; check REPLIES");
    if !path.metadata().map_err(cant)?.is_file() {
        return Err("is no file; expected a TOML file of rules".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cant)?;
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(cant)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("is over {} MiB; make it smaller", MOST_BYTES >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8; save it as UTF-8".to_owned())
}

/// Reads rules. `file` is what faults call it, `folder` where paths in it begin.
pub(super) fn parse(text: &str, file: &str, folder: &Path) -> Reading {
    let mut reader = Reader {
        source: Source::new(file, text),
        folder,
        offset: UtcOffset::CHINA,
        files: HashMap::new(),
    };
    let rules = match DeTable::parse_recoverable(text) {
        (table, errors) if errors.is_empty() => reader.document(table.get_ref()),
        (_, errors) => {
            for error in errors {
                let at = error.span().map_or(0, |span| span.start);
                let message = error.message().trim_end();
                reader.source.fault(at, format!("no TOML: {message}"));
            }
            Vec::new()
        }
    };
    if reader.source.is_sound() {
        overlap::warn(&rules, &mut reader.source);
    }
    let named = reader
        .files
        .keys()
        .map(|(_, written)| folder.join(written))
        .collect();
    let mut files: Vec<_> = reader.files.into_values().flatten().collect();
    files.sort_by(|a, b| a.written.cmp(&b.written));
    let (faults, warnings) = reader.source.into_findings();
    let rules = if faults.is_empty() {
        Ok(Rulebook {
            file: file.to_owned(),
            rules,
            offset: reader.offset,
            files,
        })
    } else {
        Err(faults)
    };
    Reading {
        rules,
        warnings,
        named,
    }
}

/// The keys of the file, and of a rule.
const TOP: &[&str] = &["utc_offset", "rule"];
const RULE: &[&str] = &[
    "name",
    "keyword",
    "contains",
    "regex",
    "case_sensitive",
    "type",
    "event",
    "key",
    "scene",
    "time",
    "weekday",
    "from",
    "until",
    "then",
    "text",
    "image",
    "voice",
    "video",
    "music",
    "news",
    "transfer_customer_service",
    "nothing",
];

type Value<'t> = Spanned<DeValue<'t>>;

struct Reader<'t> {
    source: Source<'t>,
    folder: &'t Path,
    offset: UtcOffset,
    /// Each file that is named, once; `None` where it can't be used.
    files: HashMap<(MediaKind, String), Option<Arc<MediaFile>>>,
}

impl Reader<'_> {
    fn document(&mut self, table: &DeTable<'_>) -> Vec<Rule> {
        self.only(table, TOP, "of the file");
        if let Some(value) = table.get("utc_offset")
            && let Some(text) = self.text(value)
        {
            match UtcOffset::parse(text) {
                Some(offset) => self.offset = offset,
                None => self.fault_at(value, "expected an offset like `+08:00`, or `Z`"),
            }
        }
        let is_empty = |value: &&Value<'_>| {
            let array = value.get_ref().as_array();
            array.is_some_and(|array| array.is_empty())
        };
        let Some(value) = table.get("rule").filter(|value| !is_empty(value)) else {
            self.source
                .fault(0, "there are no rules; a rule begins with `[[rule]]`");
            return Vec::new();
        };
        let Some(tables) = value.get_ref().as_array() else {
            self.fault_at(value, "a rule begins with `[[rule]]`, in two brackets");
            return Vec::new();
        };
        let mut rules: Vec<Rule> = Vec::new();
        for (at, value) in tables.iter().enumerate() {
            let Some(table) = self.table(value) else {
                continue;
            };
            let rule = self.rule(at + 1, value.span().start, table);
            if let Some(name) = &rule.name
                && let Some(twin) = rules.iter().find(|twin| twin.name.as_ref() == Some(name))
            {
                let text = format!("line {} has a rule of this name already", twin.line);
                self.fault_at(table.get("name").unwrap_or(value), text);
            }
            rules.push(rule);
        }
        rules
    }

    fn rule(&mut self, number: usize, at: usize, table: &DeTable<'_>) -> Rule {
        let all_known = self.only(table, RULE, "of a rule");
        let regexes = self.regexes(table);
        let groups = match &regexes {
            Some(regexes) => Groups::Of(regexes),
            None => Groups::Any,
        };
        let says = self.saying(at, table, groups, all_known);
        let then = self.then(table, says.as_ref());
        let conditions = self.conditions(table, regexes.unwrap_or_default());
        let rule = Rule {
            name: self.name(table),
            number,
            line: self.source.line(at),
            at,
            conditions,
            says: says.map(|(_, saying)| saying),
            then,
        };
        self.doubts(&rule, table);
        rule
    }

    fn name(&mut self, table: &DeTable<'_>) -> Option<String> {
        let value = table.get("name")?;
        let name = self.text(value)?.trim();
        let length = name.chars().count();
        if length == 0 || length > MOST_NAME_CHARS || name.chars().any(char::is_control) {
            let text = format!("expected a name of 1 to {MOST_NAME_CHARS} characters, in one line");
            self.fault_at(value, text);
            return None;
        }
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            self.fault_at(
                value,
                "a number is no name: rules without one go by their number",
            );
            return None;
        }
        Some(name.to_owned())
    }
}
