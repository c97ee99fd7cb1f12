//! A RabbitMQ node for one test alone, to be stopped, killed and blocked at will: scripts/rabbitmq does the work.

use std::process::{Command, Stdio};

/// Ended and deleted when dropped.
#[derive(Debug)]
pub struct PrivateBroker {
    instance: String,
    url: String,
}

impl PrivateBroker {
    /// Starts a node; it takes some 10 s.
    pub async fn start() -> Self {
        let instance = format!("test-{:08x}", fastrand::u32(..));
        let url = script(&["start", &instance]).await;
        Self { instance, url }
    }

    /// Its AMQP URL: the same over stops and starts.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name for scripts/rabbitmq.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// `127.0.0.1:port`, for a [`super::FaultyLink`].
    pub fn address(&self) -> &str {
        let after_login = self.url.split('@').nth(1).expect("the script prints user and password");
        after_login.split('/').next().expect("split gives one part at least")
    }

    /// Stops it in order; persistent messages stay.
    pub async fn stop(&self) {
        script(&["stop", &self.instance]).await;
    }

    /// kill -9.
    pub async fn kill(&self) {
        script(&["kill", &self.instance]).await;
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill): same port, same messages.
    pub async fn start_again(&self) {
        assert_eq!(script(&["start", &self.instance]).await, self.url);
    }

    /// Stop and start.
    pub async fn restart(&self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Sets the memory alarm: no connection may publish.
    pub async fn block(&self) {
        self.ctl(&["set_vm_memory_high_watermark", "0"]).await;
    }

    /// Clears the memory alarm.
    pub async fn unblock(&self) {
        self.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    }

    /// Closes all client connections, as an operator does.
    pub async fn close_connections(&self) {
        self.ctl(&["close_all_connections", "closed by a test"]).await;
    }

    /// Any other `rabbitmqctl` command; its output.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        script(&[&["ctl", &self.instance, "--quiet"], arguments].concat()).await
    }
}

impl Drop for PrivateBroker {
    fn drop(&mut self) {
        let dropped = command(&["drop", &self.instance]).status();
        if !std::thread::panicking() {
            assert!(dropped.expect("scripts/rabbitmq runs").success(), "could not end {}", self.instance);
        }
    }
}

async fn script(arguments: &[&str]) -> String {
    let mut command = command(arguments);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("no panic in it")
        .expect("scripts/rabbitmq runs");
    assert!(
        output.status.success(),
        "scripts/rabbitmq {arguments:?}: {}\n(a test that stops its broker needs rabbitmq-server: scripts/setup rabbitmq)",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/rabbitmq"));
    command.args(arguments).stdin(Stdio::null());
    command
}
