//! What an operator sees of the process: logs and metrics.

pub mod metrics;
