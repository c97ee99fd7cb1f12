//! The 신경 server and all that it needs.

use super::{Connections, Service, ServiceError};
use crate::cluster::node::NodeId;
use crate::config::Config;

impl Service {
    /// Serves 신경, if that is asked for.
    pub(super) async fn start_singyeong(
        &mut self,
        _config: &Config,
        _connections: &Connections,
        _node: &NodeId,
    ) -> Result<(), ServiceError> {
        Ok(())
    }
}
