//! The terminal, taken and given back.

use std::io;
use std::time::SystemTime;

use ratatui::DefaultTerminal;

use super::draw;
use super::view::View;
use super::watching::Watch;

/// The whole terminal, without echo and with a screen of its own. Given back when dropped, and before a panic is told.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    color: bool,
}

impl Screen {
    /// # Errors
    /// It is no terminal that can do this.
    pub(super) fn open() -> io::Result<Self> {
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore())?;
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Ok(Self { terminal, color: !no_color })
    }

    pub(super) fn draw(&mut self, watched: &Watch, view: &mut View) -> io::Result<()> {
        let color = self.color;
        self.terminal.draw(|frame| {
            let area = frame.area();
            draw::whole(frame.buffer_mut(), area, watched, view, SystemTime::now());
            if !color {
                draw::without_color(frame.buffer_mut());
            }
        })?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}
