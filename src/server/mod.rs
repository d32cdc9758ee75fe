//! Listeners, connections, the batch, dispatch and the two faces.
