//! What the programs of this package share. `chaos` starts nodes and breaks things, `checker` and `ledger` judge what came of it, and `trader`
//! is a node with a business of its own. What the checkers use ([`check`], [`ledger`], [`journal`], [`payload`]) knows nothing of the
//! library under test: they read what processes wrote.

pub mod check;
pub mod conduct;
pub mod journal;
pub mod ledger;
pub mod pace;
pub mod payload;
