//! The ids: printed after the commit of their messages.

use std::io;

use waypost::MessageId;
use waypost_process::{Number, Signals, streams};

use crate::output::{Output, STDOUT, count};

/// What is stored, and which ids of it were printed.
pub(super) struct Ids<'a> {
    output: &'a Output,
    stored: u64,
    printed: u64,
    /// Why no more are printed.
    failure: Option<io::Error>,
}

impl<'a> Ids<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        Self { output, stored: 0, printed: 0, failure: None }
    }

    /// Prints the ids of a commit, or tells which signal came before somebody took them. Once that has failed none is printed any more: what is
    /// printed is the beginning of what is stored, without a gap. Messages are sent all the same.
    pub(super) async fn print(
        &mut self,
        ids: &[MessageId],
        signals: &mut Signals,
    ) -> Option<Number> {
        self.stored += ids.len() as u64;
        if self.failure.is_some() {
            return None;
        }
        if self.printed == 0
            && let Err(error) = self.output.end_torn_line().await
        {
            self.fail(error);
            return None;
        }
        let lines = lines(ids, self.output.json());
        match self.output.write_unless_ended(lines, signals).await {
            Ok(Ok(())) => self.printed += ids.len() as u64,
            Ok(Err(error)) => self.fail(error),
            Err(number) => return Some(number),
        }
        None
    }

    fn fail(&mut self, error: io::Error) {
        tracing::warn!(
            "{STDOUT}: {error}; no more ids are printed, and messages are sent all the same"
        );
        self.failure = Some(error);
    }

    /// What is stored, and which ids of it were printed, as part of a sentence.
    pub(super) fn told(&self) -> String {
        let stored = count(self.stored, "message");
        match self.printed == self.stored {
            true => format!("{stored} committed, with their ids printed"),
            false => format!("{stored} committed, the ids of the first {} printed", self.printed),
        }
    }

    /// Says which ids were not printed. True: some were not.
    pub(super) fn report(&self) -> bool {
        let Some(error) = &self.failure else { return false };
        streams::say(format_args!("waypost: {}; {STDOUT}: {error}", self.told()));
        true
    }
}

/// The ids, a line each.
fn lines(ids: &[MessageId], json: bool) -> Vec<u8> {
    let line = |id| if json { format!("{{\"id\":\"{id}\"}}\n") } else { format!("{id}\n") };
    ids.iter().map(line).collect::<String>().into_bytes()
}
