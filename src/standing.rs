//! What holds for all that stands around the engine: the configuration, and the ways out that were built from it. Replaced
//! as a whole by a reload.

use crate::config::Config;
use crate::engine::Ways;

/// See the module.
pub struct Standing {
    /// The configuration.
    pub config: Config,
    /// The dispatchers, built, in order of priority.
    pub ways: Ways,
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standing").field("config", &self.config).finish_non_exhaustive()
    }
}
