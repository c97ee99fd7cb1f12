//! What is served over HTTP: health, metrics and the page with its admin interface at `HTTP_ADDRESS`, metrics alone at
//! `PROMETHEUS_ADDRESS`.

use std::sync::Arc;

use tracing::info;

use super::seeing::Seeing;
use super::{Service, ServiceError};
use crate::config::{Config, HttpReaders, Prometheus};
use crate::http::{Admin, Page, Readers, Server, Site};

impl Service {
    /// Serves what is asked for.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub(super) async fn start_site(&mut self, config: &Config, seeing: &Seeing) -> Result<(), ServiceError> {
        if let Some(address) = config.http {
            let server = Server::bind(address).await?;
            let here = server.address();
            info!(address = %here, "health is served at /health/live and /health/ready, metrics at /metrics, the page at http://{here}/");
            if !address.ip().is_loopback() && config.http_token.is_none() {
                info!("HTTP_TOKEN is not set: the page at / shows nothing but on this machine itself, by localhost");
            }
            let readers = Readers::new(config.http_token.clone());
            let readers = Arc::new(match config.http_readers {
                HttpReaders::Loopback => readers,
                HttpReaders::Token => readers.closed_here(),
            });
            let admin = Admin::new(readers.clone(), self.view.clone());
            let page = Page::new(readers, Arc::new(seeing.watch.clone()));
            let also = config.prometheus.as_ref().filter(|at| shares(config, at)).map(|at| at.endpoint.as_str());
            let site = Site::new(self.view.clone()).with_metrics(seeing.reporter.clone(), also);
            let stop = self.carriers.clone();
            self.run(server.run(site.with_admin(admin).with_page(page), stop));
        }
        if let Some(at) = config.prometheus.as_ref().filter(|at| !shares(config, at)) {
            let server = Server::bind_for("PROMETHEUS_ADDRESS", at.address).await?;
            info!(address = %server.address(), path = %at.endpoint, "metrics are served");
            let site = Site::metrics_alone(seeing.reporter.clone(), &at.endpoint);
            let stop = self.carriers.clone();
            self.run(server.run(site, stop));
        }
        Ok(())
    }
}

/// Whether the metrics have no address of their own. Port 0 is another one each time.
fn shares(config: &Config, metrics: &Prometheus) -> bool {
    config.http == Some(metrics.address) && metrics.address.port() != 0
}
