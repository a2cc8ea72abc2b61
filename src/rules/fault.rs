//! What is wrong in a file of rules: where, what, and what to do about it.

use std::fmt;
use std::ops::Range;

/// Something wrong or doubtful in a file of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    file: String,
    /// Line and column from 1, unless it is the file itself.
    position: Option<(usize, usize)>,
    text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, text, .. } = self;
        match self.position {
            Some((line, column)) => write!(f, "{file}:{line}:{column}: {text}"),
            None => write!(f, "{file}: {text}"),
        }
    }
}

impl Fault {
    /// Of the file as a whole.
    pub(super) fn of_file(file: &str, text: String) -> Self {
        Self {
            file: file.to_owned(),
            position: None,
            text,
        }
    }

    /// What is wrong, without the place.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The text of a file of rules, with what was found in it so far.
pub(super) struct Source<'t> {
    file: &'t str,
    text: &'t str,
    faults: Vec<(usize, Fault)>,
    warnings: Vec<(usize, Fault)>,
}

impl<'t> Source<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        Self {
            file,
            text,
            faults: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Notes what makes the file unusable. `at` counts bytes.
    pub(super) fn fault(&mut self, at: usize, text: impl Into<String>) {
        let fault = self.found(at, text.into());
        self.faults.push((at, fault));
    }

    /// Notes what is allowed and surely not meant.
    pub(super) fn warn(&mut self, at: usize, text: impl Into<String>) {
        let fault = self.found(at, text.into());
        self.warnings.push((at, fault));
    }

    pub(super) fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// The faults and the warnings, in the order of the file.
    pub(super) fn into_findings(self) -> (Vec<Fault>, Vec<Fault>) {
        let in_order = |mut found: Vec<(usize, Fault)>| {
            found.sort_by_key(|(at, _)| *at);
            found.into_iter().map(|(_, fault)| fault).collect()
        };
        (in_order(self.faults), in_order(self.warnings))
    }

    /// The line in which a byte stands, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.position(at).0
    }

    /// Where in the file the `nth` `{{` of a value stands, or its beginning, should it be written in
    /// another way.
    pub(super) fn placeholder(&self, value: Range<usize>, nth: usize) -> usize {
        let written = self.text.get(value.clone()).unwrap_or_default();
        let offset = written.match_indices("{{").nth(nth).map_or(0, |(at, _)| at);
        value.start + offset
    }

    fn found(&self, at: usize, text: String) -> Fault {
        Fault {
            file: self.file.to_owned(),
            position: Some(self.position(at)),
            text,
        }
    }

    /// Line and column, in characters, from 1.
    fn position(&self, at: usize) -> (usize, usize) {
        let at = (0..=at.min(self.text.len()))
            .rev()
            .find(|&at| self.text.is_char_boundary(at))
            .unwrap_or(0);
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (
            before.matches('\n').count() + 1,
            before[line_start..].chars().count() + 1,
        )
    }
}

/// `; did you mean …?` if one of the known words is near, else nothing.
pub(super) fn meant<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let near = known
        .into_iter()
        .filter(|known| *known != word)
        .map(|known| {
            let apart = strsim::damerau_levenshtein(&word.to_lowercase(), &known.to_lowercase());
            (apart, known)
        })
        .filter(|(apart, known)| *apart <= 2 && *apart * 2 < known.chars().count())
        .min_by_key(|(apart, _)| *apart);
    match near {
        Some((_, known)) => format!("; did you mean `{known}`?"),
        None => String::new(),
    }
}

/// Words in backquotes with commas.
pub(super) fn listed<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let quoted: Vec<_> = words.into_iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_in_lines_and_characters_from_one() {
        let text = "a = 1\n名 = \"好\" # x\n";
        let mut source = Source::new("r.toml", text);
        source.fault(text.find('#').unwrap(), "late");
        source.fault(0, "early");
        source.warn(text.len() + 9, "past the end");
        let (faults, warnings) = source.into_findings();
        let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["r.toml:1:1: early", "r.toml:2:9: late"]);
        assert_eq!(warnings[0].to_string(), "r.toml:3:1: past the end");
    }

    #[test]
    fn a_word_that_is_near_is_suggested() {
        let known = ["keyword", "key", "text", "CLICK"];
        assert_eq!(meant("keywrd", known), "; did you mean `keyword`?");
        assert_eq!(meant("txet", known), "; did you mean `text`?");
        assert_eq!(meant("click", known), "; did you mean `CLICK`?");
        assert_eq!(meant("weather", known), "");
        assert_eq!(meant("ab", known), "");
    }
}
