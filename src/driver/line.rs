//! The line from a node's handles to its driver.

use tokio::sync::{mpsc, oneshot, watch};

use super::Command;
use crate::refusal::NodeError;

/// Commands that wait for the driver; whoever has another one waits.
const COMMANDS: usize = 256;

/// The handles' end.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    commands: mpsc::Sender<Command>,
    /// Closed when the other end is gone.
    open: watch::Receiver<()>,
}

/// The driver's end.
#[derive(Debug)]
pub(crate) struct Commands {
    commands: mpsc::Receiver<Command>,
    /// Dropped after the queue: who then has no answer gets none.
    _open: watch::Sender<()>,
}

pub(crate) fn line() -> (Line, Commands) {
    let (sender, commands) = mpsc::channel(COMMANDS);
    let (is_open, open) = watch::channel(());
    (Line { commands: sender, open }, Commands { commands, _open: is_open })
}

impl Line {
    /// Asks the driver and waits for its answer.
    pub(crate) async fn ask<R>(
        &self,
        command: impl FnOnce(oneshot::Sender<R>) -> Command,
    ) -> Result<R, NodeError> {
        let (reply, mut answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| NodeError::ShutDown)?;
        let mut open = self.open.clone();
        tokio::select! {
            biased;
            answered = &mut answer => answered.map_err(|_| NodeError::ShutDown),
            // What is put into a queue while its other end is being dropped stays in it, with the reply, for as long as there are senders.
            _ = open.changed() => answer.try_recv().map_err(|_| NodeError::ShutDown),
        }
    }

    /// Tells the driver, and waits for nothing but a place in the queue.
    pub(crate) async fn order(&self, command: Command) -> Result<(), NodeError> {
        self.commands.send(command).await.map_err(|_| NodeError::ShutDown)
    }

    /// Tells the driver, if it has room for it; for what is only a courtesy.
    pub(crate) fn tell(&self, command: Command) {
        let _ = self.commands.try_send(command);
    }

    /// Whether the driver is gone: shut down, or ended by a failure.
    pub(crate) fn has_ended(&self) -> bool {
        self.commands.is_closed()
    }
}

impl Commands {
    /// The next one; none when no handle is left. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Command> {
        self.commands.recv().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_asks_gets_an_answer_also_after_the_driver_ended() {
        let (line, mut commands) = line();
        let driver = tokio::spawn(async move {
            let Some(Command::SettleNow { reply }) = commands.next().await else {
                panic!("no command")
            };
            reply.send(Ok(())).expect("somebody waits");
        });
        line.ask(|reply| Command::SettleNow { reply }).await.expect("answered").expect("settled");
        driver.await.expect("it ended");
        let late = line.ask(|reply| Command::SettleNow { reply }).await;
        assert!(matches!(late, Err(NodeError::ShutDown)));
        assert!(line.has_ended());
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_nobody_takes_out_any_more_has_an_end() {
        let (line, commands) = line();
        // As it is when the queue was emptied a moment before the command was put in: it is there, and nobody drops it.
        let Commands { commands: _queue, _open } = commands;
        let asked = line.ask(|reply| Command::SettleNow { reply });
        let ended = async {
            tokio::task::yield_now().await;
            drop(_open);
        };
        let both = async { tokio::join!(asked, ended).0 };
        let answer = tokio::time::timeout(Duration::from_secs(60), both).await;
        assert!(matches!(answer.expect("it does not wait for good"), Err(NodeError::ShutDown)));
    }
}
