//! Whether code runs inside a handler or a callback of a node, which then cannot wait for that node's end.

use std::sync::Arc;

use crate::gate::Gate;

tokio::task_local! {
    /// The node, by what only it has.
    static NODE: Arc<Gate>;
}

/// Runs this as a handler or a callback of the node that has this gate.
pub(super) fn scope<F: Future>(
    gate: &Arc<Gate>,
    run: F,
) -> impl Future<Output = F::Output> + use<F> {
    NODE.scope(Arc::clone(gate), run)
}

/// Whether the caller is such a one of this node's.
pub(crate) fn is_inside(gate: &Arc<Gate>) -> bool {
    NODE.try_with(|node| Arc::ptr_eq(node, gate)).unwrap_or(false)
}
