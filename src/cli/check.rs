//! `offiaccount check`: a table of what works and what to mend.

use std::process::ExitCode;

use offiaccount::Config;
use offiaccount::check::{Verdict, check};

pub(crate) async fn run(config: Config) -> anyhow::Result<ExitCode> {
    let findings = check(&config).await?;
    let table: String = findings
        .iter()
        .map(|finding| {
            let mark = match finding.verdict {
                Verdict::Good => "ok  ",
                Verdict::Risky => "warn",
                Verdict::Bad => "FAIL",
            };
            format!("{mark}  {:<13} {}\n", finding.subject, finding.detail)
        })
        .collect();
    print(&table);
    let is_bad = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Bad);
    Ok(if is_bad {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

#[expect(clippy::print_stdout, reason = "the table is the command's output")]
fn print(table: &str) {
    print!("{table}");
}
