//! How fast the nodes under test notice things: a hundredth of a day's life, so that an hour of it is seen in minutes. Rules stay as they are.

/// Settings that differ from the defaults, as the command reads them from `WAYPOST_*` and [`waypost::Config`] from its fields.
pub const SETTINGS: [(&str, &str); 5] = [
    ("keepalive_interval", "500ms"),
    ("offline_after", "2s"),
    ("ack_timeout", "1s"),
    ("retry_delay", "100ms"),
    ("max_retry_delay", "2s"),
];
