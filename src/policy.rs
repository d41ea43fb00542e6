//! The settings that rules follow: who elects, who gives orders, how much goes into a frame. Values and their checks, below the rules
//! and below the settings that hold them.

mod election;
mod management;

pub use election::{MAX_STATE_BYTES, MAX_VOTERS, Mode, Settings, SettingsError, Times, Warning};
pub use management::Management;

/// Most messages in one frame.
pub const MAX_MESSAGES: usize = 1024;
