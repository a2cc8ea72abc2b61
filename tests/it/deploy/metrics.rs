//! Alarms, dashboard and documents against the metrics of a backend that runs: whatever is renamed
//! there, and not here, fails.

use std::collections::{BTreeMap, BTreeSet};

use offiaccount::{Bot, Context};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{file, yaml};
use crate::helpers::*;

/// Label names and their values, by the name of the sample.
type Samples = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Labels that Prometheus gives to whatever it scrapes.
const SCRAPED: [&str; 2] = ["instance", "job"];

/// Words that no traffic of this test brings out, and where they are written.
const SELDOM: [(&str, &str, &[&str], &str); 3] = [
    (
        "offiaccount_store_seconds_count",
        "outcome",
        &["unavailable", "timeout", "unusable", "abandoned"],
        include_str!("../../../src/store/watch.rs"),
    ),
    (
        "offiaccount_api_calls_total",
        "errcode",
        &["timeout", "network", "nonsense"],
        include_str!("../../../src/telemetry/metrics/api.rs"),
    ),
    (
        "offiaccount_messages_total",
        "outcome",
        &["later"],
        include_str!("../../../src/ledger/handle.rs"),
    ),
];

/// What a backend shows after something of everything.
async fn samples() -> Samples {
    let bot = Bot::new()
        .on_keyword("fail", async |_: Context| {
            Err::<String, _>("on purpose".into())
        })
        .on_keyword("panic", async |_: Context| -> String {
            panic!("on purpose")
        })
        .on_keyword("long", async |_: Context| "长".repeat(1_000));
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("replies.toml");
    std::fs::write(
        &rules,
        "[[rule]]\nkeyword = \"rule\"\ntext = \"by a rule\"\n",
    )
    .unwrap();
    let setup = Setup::new().bot(bot);
    let setup = setup.settings(|settings| settings.replies = Some(rules.display().to_string()));
    let world = setup.start().await;
    let openid = world.fan().await;
    for content in ["hi", "fail", "panic", "rule", "long"] {
        world
            .act(json!({"openid": openid, "MsgType": "text", "Content": content}))
            .await;
    }
    // The further parts of the last go out behind its reply.
    let is_sent = async || world.calls("/cgi-bin/message/custom/send").await > 0;
    eventually(std::time::Duration::from_secs(5), is_sent).await;
    world
        .act(json!({"openid": openid, "MsgType": "event", "Event": "VIEW"}))
        .await;
    expect_status(world.manage("/getFollowers").await, StatusCode::OK).await;
    for path in ["/readyz", "/healthz"] {
        expect_status(world.get(path).await, StatusCode::OK).await;
    }
    let text = world.get("/metrics").await.text().await.unwrap();

    let label = regex::Regex::new(r#"([a-zA-Z_]+)="([^"]*)""#).unwrap();
    let mut samples = Samples::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let end = line.find(['{', ' ']).unwrap();
        let labels = samples.entry(line[..end].to_owned()).or_default();
        for found in label.captures_iter(line) {
            let values = labels.entry(found[1].to_owned()).or_default();
            values.insert(found[2].to_owned());
        }
    }
    for (sample, label, words, source) in SELDOM {
        let labels = samples.get_mut(sample);
        let labels = labels.unwrap_or_else(|| panic!("no metric {sample}"));
        let values = labels.get_mut(label).unwrap();
        for word in words {
            assert!(source.contains(&format!("\"{word}\"")), "{sample} {word}");
            values.insert((*word).to_owned());
        }
    }
    samples
}

/// What an expression names.
#[derive(Debug, Default)]
struct Named {
    selectors: Vec<Selector>,
    /// In `by`, `on` and the like.
    labels: Vec<String>,
}

#[derive(Debug)]
struct Selector {
    sample: String,
    /// Label, operator, value.
    matchers: Vec<[String; 3]>,
}

impl Named {
    /// Reads an expression as far as names go.
    fn of(expression: &str) -> Self {
        const OPERATORS: [&str; 6] = ["and", "or", "unless", "offset", "bool", "inf"];
        const GROUPINGS: [&str; 6] = [
            "by",
            "without",
            "on",
            "ignoring",
            "group_left",
            "group_right",
        ];
        let token = regex::Regex::new(
            r#""(?:[^"\\]|\\.)*"|\[[^\]]*\]|[0-9][0-9a-z.]*|[a-zA-Z_:][a-zA-Z0-9_:]*|[=!]~|!=|\S"#,
        )
        .unwrap();
        let tokens: Vec<&str> = token
            .find_iter(expression)
            .map(|found| found.as_str())
            .collect();
        let is_name =
            |token: &str| token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let mut named = Self::default();
        let mut at = 0;
        // The tokens up to a closing one.
        let until = |from: usize, end: &str| {
            let length = tokens[from..].iter().position(|token| *token == end);
            &tokens[from..from + length.unwrap_or_else(|| panic!("no {end} in {expression}"))]
        };
        while at < tokens.len() {
            let next = tokens.get(at + 1).copied().unwrap_or_default();
            match tokens[at] {
                grouping if GROUPINGS.contains(&grouping) => {
                    assert_eq!(next, "(", "{expression}");
                    let inside = until(at + 2, ")");
                    let labels = inside.iter().filter(|token| **token != ",");
                    named.labels.extend(labels.map(|label| (*label).to_owned()));
                    at += inside.len() + 3;
                }
                name if is_name(name) => {
                    let is_function = next == "(" || GROUPINGS.contains(&next);
                    let mut matchers = vec![];
                    at += 1;
                    if next == "{" {
                        let inside = until(at + 1, "}");
                        at += inside.len() + 2;
                        for matcher in inside.split(|token| *token == ",") {
                            let [label, operator, value] = matcher else {
                                panic!("{matcher:?} in {expression}");
                            };
                            let value = value.trim_matches('"');
                            matchers.push([*label, *operator, value].map(str::to_owned));
                        }
                    }
                    if !is_function && !OPERATORS.contains(&name) {
                        let sample = name.to_owned();
                        named.selectors.push(Selector { sample, matchers });
                    }
                }
                _ => at += 1,
            }
        }
        named
    }

    /// What of it is unknown to Prometheus.
    fn faults(&self, samples: &Samples) -> Vec<String> {
        let mut faults = vec![];
        let mut known: BTreeSet<&str> = SCRAPED.into();
        if self.selectors.is_empty() {
            faults.push("no metric at all".to_owned());
        }
        let empty = BTreeMap::new();
        for Selector { sample, matchers } in &self.selectors {
            let labels = match samples.get(sample) {
                Some(labels) => labels,
                None if sample == "up" => &empty,
                None => {
                    faults.push(format!("no metric {sample}"));
                    continue;
                }
            };
            known.extend(labels.keys().map(String::as_str));
            for [label, operator, value] in matchers {
                if SCRAPED.contains(&label.as_str()) {
                    continue;
                }
                let Some(values) = labels.get(label) else {
                    faults.push(format!("no label {label} of {sample}"));
                    continue;
                };
                let is_regex = operator.ends_with('~');
                for word in alternatives(value, is_regex) {
                    if !is_known(label, &word, is_regex, values) {
                        faults.push(format!("{label} of {sample} is never {word}"));
                    }
                }
            }
        }
        let unknown = self.labels.iter().filter(|l| !known.contains(l.as_str()));
        faults.extend(unknown.map(|label| format!("no label {label} to group by")));
        faults
    }
}

/// The parts of a regular expression that `|` separates outside of brackets; of a plain value, itself.
fn alternatives(value: &str, is_regex: bool) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut depth = 0;
    for c in value.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '|' if is_regex && depth == 0 => {
                words.push(String::new());
                continue;
            }
            _ => {}
        }
        words.last_mut().unwrap().push(c);
    }
    words
}

fn is_known(label: &str, word: &str, is_regex: bool, values: &BTreeSet<String>) -> bool {
    let is = |form: &str| regex::Regex::new(form).unwrap().is_match(word);
    match label {
        // WeChat's own, and HTTP's: too many to be brought about here.
        "errcode" if is("^(-1|[0-9]{5})$") => true,
        "status" if is("^[1-5][0-9]{2}$") => true,
        _ if is_regex => {
            let regex = regex::Regex::new(&format!("^(?:{word})$")).unwrap();
            values.iter().any(|value| regex.is_match(value))
        }
        _ => values.contains(word),
    }
}

/// `{{ $labels.route }}` and `{{route}}` name labels of what the expression gives.
fn named_in_text(text: &str, pattern: &str) -> Vec<String> {
    let pattern = regex::Regex::new(pattern).unwrap();
    let found = pattern.captures_iter(text);
    found.map(|found| found[1].to_owned()).collect()
}

/// The labels that are left: those grouped by, or all.
fn left(named: &Named, expression: &str, samples: &Samples) -> BTreeSet<String> {
    let is_grouped = expression.contains(" by (") || expression.starts_with("sum(");
    let mut labels: BTreeSet<String> = named.labels.iter().cloned().collect();
    if !is_grouped {
        labels.extend(SCRAPED.map(str::to_owned));
        for selector in &named.selectors {
            let of_sample = samples.get(&selector.sample).into_iter().flatten();
            labels.extend(of_sample.map(|(label, _)| label.clone()));
        }
    }
    labels
}

/// An expression, and the labels that the text beside it shows.
struct Shown {
    place: String,
    expression: String,
    labels: Vec<String>,
}

fn of_alarms() -> Vec<Shown> {
    let rules = yaml("alerts.yaml");
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let shown = rules.map(|rule| {
        let summary = rule["annotations"]["summary"].as_str().unwrap();
        let severity = &rule["labels"]["severity"];
        assert!(severity == "critical" || severity == "warning", "{rule}");
        Shown {
            place: rule["alert"].as_str().unwrap().to_owned(),
            expression: rule["expr"].as_str().unwrap().to_owned(),
            labels: named_in_text(summary, r"\{\{ *\$labels\.(\w+)"),
        }
    });
    shown.collect()
}

fn of_dashboard() -> Vec<Shown> {
    let dashboard: Value = serde_json::from_str(&file("grafana.json")).unwrap();
    let mut shown = vec![];
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        assert_ne!(panel["type"] == "row", !targets.is_empty(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            shown.push(Shown {
                place: title.to_owned(),
                expression: target["expr"].as_str().unwrap().to_owned(),
                labels: named_in_text(target["legendFormat"].as_str().unwrap(), r"\{\{ *(\w+)"),
            });
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let of_query = variables.iter().filter(|each| each["type"] == "query");
    let form = regex::Regex::new(r"^label_values\((\w+), (\w+)\)$").unwrap();
    for variable in of_query {
        let query = variable["query"]["query"].as_str().unwrap();
        let parts = form.captures(query).unwrap();
        shown.push(Shown {
            place: query.to_owned(),
            expression: parts[1].to_owned(),
            labels: vec![parts[2].to_owned()],
        });
    }
    shown
}

#[tokio::test]
async fn alarms_and_dashboard_name_only_what_the_backend_shows() {
    let samples = samples().await;
    let (alarms, panels) = (of_alarms(), of_dashboard());
    assert!(alarms.len() > 20 && panels.len() > 20, "something was read");
    let mut faults = vec![];
    for shown in alarms.iter().chain(&panels) {
        let named = Named::of(&shown.expression);
        let left = left(&named, &shown.expression, &samples);
        let foreign = shown.labels.iter().filter(|label| !left.contains(*label));
        let foreign = foreign.map(|label| format!("shows a label {label} that is not left"));
        for fault in named.faults(&samples).into_iter().chain(foreign) {
            faults.push(format!("{}: {fault}", shown.place));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test]
async fn both_readmes_list_every_metric_with_its_labels() {
    let samples = samples().await;
    let family = |sample: &str| {
        let histogram = ["_bucket", "_sum", "_count"]
            .into_iter()
            .find_map(|suffix| sample.strip_suffix(suffix))
            .filter(|family| samples.contains_key(&format!("{family}_bucket")));
        histogram.unwrap_or(sample).to_owned()
    };
    let mut families: BTreeMap<String, BTreeMap<&str, &BTreeSet<String>>> = BTreeMap::new();
    for (sample, labels) in &samples {
        let labels = labels.iter().filter(|(label, _)| *label != "le");
        let labels = labels.map(|(label, values)| (label.as_str(), values));
        families.entry(family(sample)).or_default().extend(labels);
    }
    let word = regex::Regex::new(r"`([a-z_]+)`").unwrap();
    let words = |cell: &str| -> Vec<String> {
        let found = word.captures_iter(cell);
        found.map(|found| found[1].to_owned()).collect()
    };
    for readme in ["README.md", "README.zh-CN.md"] {
        let path = format!("{}/{readme}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let mut missing: BTreeSet<&str> = families.keys().map(String::as_str).collect();
        for row in text
            .lines()
            .filter(|line| line.starts_with("| `offiaccount_"))
        {
            let cells: Vec<&str> = row.split('|').collect();
            let named = words(cells[1]);
            let said = words(cells[2]);
            for name in named {
                assert!(missing.remove(name.as_str()), "{readme}: no metric {name}");
                let labels = &families[&name];
                for (label, values) in labels {
                    assert!(
                        said.iter().any(|w| w == label),
                        "{readme}: {name} has {label}"
                    );
                    // A list of values holds all of them.
                    let listed = said.iter().any(|word| values.contains(word));
                    let is_open = ["kind", "credential", "errcode"].contains(label);
                    let lacks = values.iter().find(|value| !said.contains(value));
                    assert!(
                        !listed || is_open || lacks.is_none(),
                        "{readme}: {name} can be {lacks:?}"
                    );
                }
                for word in &said {
                    let is_value = labels.values().any(|values| values.contains(word));
                    assert!(
                        is_value || labels.contains_key(word.as_str()),
                        "{readme}: {name} has no {word}"
                    );
                }
            }
        }
        assert!(missing.is_empty(), "{readme} lacks {missing:?}");
    }
}

#[test]
fn the_reader_of_expressions_finds_every_name() {
    let named = Named::of(
        r#"sum by (a, b) (rate(x_total{c=~"d|e.*",f!="g"}[5m])) > on (h) group_left () (3 + 0.5 * y)
           and absent(up{job="k"} offset 5m)"#,
    );
    let samples: Vec<&str> = named.selectors.iter().map(|s| s.sample.as_str()).collect();
    assert_eq!(samples, ["x_total", "y", "up"]);
    assert_eq!(named.labels, ["a", "b", "h"]);
    let matchers = &named.selectors[0].matchers;
    assert_eq!(matchers[0], ["c", "=~", "d|e.*"]);
    assert_eq!(matchers[1], ["f", "!=", "g"]);

    let known = |labels: &[(&str, &str)]| -> BTreeMap<String, BTreeSet<String>> {
        let labels = labels.iter();
        labels
            .map(|(label, value)| ((*label).to_owned(), [(*value).to_owned()].into()))
            .collect()
    };
    let samples: Samples = [
        (
            "x_total".to_owned(),
            known(&[("a", ""), ("b", ""), ("c", "d"), ("f", "z")]),
        ),
        ("y".to_owned(), known(&[])),
    ]
    .into();
    assert_eq!(
        named.faults(&samples),
        [
            "c of x_total is never e.*",
            "f of x_total is never g",
            "no label h to group by",
        ]
    );
    let renamed = Named::of("rate(z_total[5m])");
    assert_eq!(renamed.faults(&samples), ["no metric z_total"]);
}
