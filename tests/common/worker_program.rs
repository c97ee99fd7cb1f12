//! A worker in another language, run beside Optic: it says "bound" when it is ready, and ends with a line of JSON.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::{OpticProcess, must};

/// Killed when dropped.
pub struct WorkerProgram {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: ChildStderr,
}

impl WorkerProgram {
    /// Starts it and waits until it is bound.
    pub async fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let stderr = child.stderr.take().expect("piped");
        let mut program = Self { child, stdout, stderr };
        let bound = must("the worker's queues", program.stdout.next_line()).await.expect("readable");
        if bound.as_deref() != Some("bound") {
            panic!("the worker said {bound:?}: {}", program.errors().await);
        }
        program
    }

    /// Waits for its last line, and for its end with status 0.
    pub async fn summary(mut self, optic: &OpticProcess) -> Value {
        let summary = must("the worker's summary", self.stdout.next_line()).await.expect("readable");
        let status = must("the worker's end", self.child.wait()).await.expect("it is our child");
        let errors = self.errors().await;
        assert!(status.success(), "{errors}\n{}", optic.stderr().join("\n"));
        serde_json::from_str(&summary.expect("a line")).expect("JSON")
    }

    async fn errors(&mut self) -> String {
        let mut errors = String::new();
        self.stderr.read_to_string(&mut errors).await.expect("text");
        errors
    }
}
