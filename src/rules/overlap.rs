//! Rules that an earlier one never lets answer.

use super::fault::Source;
use super::{Rule, Then};

/// Warns of each rule, or of each value in it, for which an earlier rule answers in any case.
pub(super) fn warn(rules: &[Rule], source: &mut Source<'_>) {
    for (at, rule) in rules.iter().enumerate() {
        let earlier = || {
            rules[..at]
                .iter()
                .filter(|earlier| earlier.then != Then::Next)
        };
        let alternatives = rule.conditions.alternatives();
        let taken: Vec<_> = alternatives
            .iter()
            .filter_map(|(value, conditions)| {
                let by = earlier().find(|earlier| earlier.conditions.cover(conditions))?;
                Some((value, by))
            })
            .collect();
        let Some((_, first)) = taken.first() else {
            continue;
        };
        if taken.len() == alternatives.len() {
            let rest = if taken.iter().all(|(_, by)| by.number == first.number) {
                format!("{first}, line {}, answers in its place", first.line)
            } else {
                "earlier rules answer in its place".to_owned()
            };
            let text = format!("{rule} never answers: {rest}; put it before, or remove it");
            source.warn(rule.at, text);
            continue;
        }
        for (value, by) in taken {
            let text = format!(
                "{rule} never answers to {value}: {by}, line {}, does",
                by.line
            );
            source.warn(rule.at, text);
        }
    }
}
