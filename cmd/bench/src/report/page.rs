//! The page, in Markdown.

use std::fmt::Write;

use crate::options::Scenario;
use crate::record::{Judgement, Record, Verdict};
use crate::results::Results;
use crate::table::{numbers, ratio, summary, verdict};

/// The page; the plots lie beside it.
pub(super) fn write(results: &Results, plots: &[&str]) -> String {
    let mut page = String::from("# Speed\n\n");
    head(&mut page, results);
    targets(&mut page, results);
    for record in &results.scenarios {
        scenario(&mut page, record);
        for plot in plots.iter().filter(|plot| belongs(plot, record.scenario)) {
            let title = plot.trim_end_matches(".svg");
            line(&mut page, &format!("![{title}]({plot})\n"));
        }
    }
    repeat(&mut page, results);
    page
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("memory takes it");
}

fn head(page: &mut String, results: &Results) {
    let machine = &results.machine;
    let gib = machine.memory_bytes as f64 / f64::from(1 << 30);
    line(page, "| | |\n|---|---|");
    for (name, value) in [
        ("date", results.started.clone()),
        ("waypost", format!("{}, commit {}", results.version, machine.commit)),
        ("processor", format!("{}, {} cores", machine.cpu, machine.cores)),
        ("memory", format!("{gib:.0} GiB")),
        ("system", machine.kernel.clone()),
        ("file system", machine.filesystem.clone()),
        ("server", results.server.clone()),
        ("compiler", machine.rustc.to_owned()),
        ("messages", format!("{} bytes, {}", results.payload_bytes, results.payload)),
    ] {
        line(page, &format!("| {name} | {} |", cell(&value)));
    }
    let sizes = &results.sizes;
    let rounds =
        if sizes.runs == 1 { "One round".to_owned() } else { format!("{} rounds", sizes.runs) };
    line(
        page,
        &format!(
            "\n{rounds}, {} s for each measurement after {} s of warm-up; median, least and most of the rounds. Nodes, clients and the \
             simulated peers share this machine with the server. The nodes have their default settings (every `send` returns after an fsync, \
             every handled message is committed before its acknowledgement), but for what is named, and no \
             `queue_limit`; their handlers only count, \
             and run in the node's own thread (`on_message_inline`) where nothing else is said. A ratio is taken within a round, from \
             figures measured one right after the other, and judged by the median of the rounds.\n",
            sizes.window.as_secs_f64(),
            sizes.warm.as_secs_f64(),
        ),
    );
    if machine.is_in_memory() {
        line(
            page,
            "**The files lie in memory, where an fsync costs nothing: figures with one mean nothing.**\n",
        );
    }
}

fn targets(page: &mut String, results: &Results) {
    line(page, "## Targets\n");
    line(page, &format!("{}.\n", capital(summary(results.standing()))));
    if results.scenarios.iter().all(|record| record.judgements.is_empty()) {
        return;
    }
    line(page, "| | compared | must be | median | least | most | |\n|---|---|---|---|---|---|---|");
    for judgement in results.scenarios.iter().flat_map(|record| &record.judgements) {
        let Judgement { item, what, bound, spread, .. } = judgement;
        let [median, least, most] = match spread {
            Some(spread) => [spread.median, spread.min, spread.max].map(ratio),
            None => ["", "", ""].map(str::to_owned),
        };
        let came = match &judgement.verdict {
            Verdict::NotMeasured { why } => format!("not measured: {}", cell(why)),
            other => verdict(other).to_owned(),
        };
        let what = cell(what);
        line(
            page,
            &format!("| {item} | {what} | {bound} | {median} | {least} | {most} | {came} |"),
        );
    }
    line(page, "");
}

fn scenario(page: &mut String, record: &Record) {
    line(page, &format!("## `{}`: {}\n", record.scenario, record.scenario.title()));
    line(page, &format!("{}\n", explanation(record.scenario)));
    if !record.figures.is_empty() {
        line(page, "| measured | median | least | most |\n|---|---:|---:|---:|");
        for figure in &record.figures {
            let [median, least, most] = numbers(figure);
            line(page, &format!("| {} | {median} | {least} | {most} |", cell(&figure.what)));
        }
        line(page, "");
    }
    for missing in &record.missing {
        line(page, &format!("Not measured: {}: {}.\n", missing.what, missing.why));
    }
    for note in &record.notes {
        line(page, &format!("{}.\n", capital(note)));
    }
}

/// What each figure is.
fn explanation(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::One => {
            "Messages that the reader's handler took, a second, batching off: every message is sent, handled, committed and acknowledged before \
             the next one goes. Once out of a backlog in the file, once while 64 tasks send and messages always wait, and, not judged, out of a \
             backlog by a handler on the program's runtime. Beside it: requests of 256 bytes and empty replies through the same server, one at \
             a time, with nothing stored anywhere."
        }
        Scenario::Many => {
            "Batching off. Judged is what many receivers cost their sender: a node in a process of its own serves simulated peers, which acknowledge \
             at once, beside 64 requests in flight at any time. And what a message costs its receiver: the processor time of a reading node's \
             process for each message out of a backlog, beside that of a process that answers requests one at a time and that of a commit \
             which nothing syncs. Not judged: what the handlers of many reading nodes took together, each with a file of its own and all on this \
             machine, which is how well their threads share its processors."
        }
        Scenario::Live => {
            "256 tasks send, frames hold up to 256 messages, `max_wait` is 0, one reader. The senders wait while 8,192 messages do, so that \
             this is what can go on for ever. JetStream: a stream in files, a publisher with 256 acknowledgements outstanding that waits for its \
             consumer just so, and a pull consumer in batches of 256 that acknowledges each message. Its default acknowledges before anything is \
             synced; `sync_interval: always` promises what waypost promises by default."
        }
        Scenario::Drain => {
            "Everything is stored first; the figure is the rate from the first message to the last, frames and batches of up to 256."
        }
        Scenario::Fanout => {
            "The time of a send to one reader and to many: one row is written for all. And what 64 reading nodes take together out of a backlog, \
             batching on, beside what one takes live."
        }
        Scenario::Latency => {
            "From the moment at which a message was to be sent to the start of its handler: batching off, two nodes, the handler on the program's runtime. The anchors go at the same \
             pace: an fsync of an append of 4,096 bytes, and a request with its reply."
        }
        Scenario::Backlog => {
            "A node with a large backlog is started in a process of its own: the time to its reader's first message, the most memory that the \
             process ever had beyond that of an idle node, and the rates. The file's size is that after the node that filled it was stopped. Then \
             a file is filled, its messages are settled and cleaned away, and it is filled again."
        }
        Scenario::Scale => {
            "One node in a process of its own, and simulated peers, each with its keepalives and acknowledgements, on one connection. Idle: the \
             processor time that knowing them costs. Served: all have messages waiting and are acknowledged at once, batching off."
        }
        Scenario::Senders => {
            "Messages whose `send` returned, a second, with nobody to deliver to. One task waits for an fsync each time; the sends of many share one."
        }
        Scenario::Wear => {
            "Messages of 90 bytes from one node to another, one at a time and at a steady pace, and beside them the same bytes in a row of a plain \
             table: one transaction each, a log (WAL), synchronous=FULL, SQLite's defaults else. Each has a process of its own; the figure is what the system says that \
             the process had written to the disk, in blocks, by the number of messages. All rates and all processes run at the same time."
        }
        Scenario::Normal => {
            "What the promise costs: the same with commits that are not synced. Never the default."
        }
        Scenario::Outage => {
            "The wire between a sending node and the server is cut for some seconds while messages go on being sent: what waits, when the first \
             one arrives after the wire is whole, and when nothing waits any more."
        }
    }
}

fn repeat(page: &mut String, results: &Results) {
    line(page, "## Again\n");
    line(
        page,
        "`scripts/bench` gets a server, builds the command and runs it; `scripts/bench --help` says more. This run was:\n",
    );
    line(page, &format!("```console\n$ {}\n```", results.command));
}

/// In a table no text may look like the end of its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn belongs(plot: &str, scenario: Scenario) -> bool {
    plot == format!("{}.svg", super::plots::name_of(scenario))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_leave_its_cell() {
        assert_eq!(cell("a|b\nc"), "a\\|b c");
        assert_eq!(capital("one"), "One");
    }
}
