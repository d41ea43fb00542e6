//! The runtime of a program.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// None of them ends before the runtime.
const FOR_LIFE: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A runtime with a thread for each processor, and two for what blocks that last as long as it does: where the system gives no more of them later, work waits, and
/// nothing panics.
///
/// # Errors
/// The system gives too few threads now.
pub fn runtime() -> io::Result<Runtime> {
    let runtime = Builder::new_multi_thread().enable_all().thread_keep_alive(FOR_LIFE).build()?;
    // The first waits until the second is there.
    let (go, gone) = mpsc::channel::<()>();
    runtime.spawn_blocking(move || gone.recv());
    runtime.spawn_blocking(|| ());
    drop(go);
    Ok(runtime)
}
