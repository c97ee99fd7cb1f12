//! A program of another language beside Optic: it says lines, is told lines, and ends with a line of JSON.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::must;

/// Killed when dropped.
pub struct Program {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: JoinHandle<String>,
}

impl Program {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut stderr = child.stderr.take().expect("piped");
        let stderr = tokio::spawn(async move {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).await.expect("readable");
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { stdin: child.stdin.take().expect("piped"), child, stdout, stderr }
    }

    /// Waits for a line, which must be this one.
    pub async fn says(&mut self, expected: &str) {
        let line = self.line().await;
        if line.as_deref() != Some(expected) {
            panic!("the program said {line:?} and not {expected:?}: {}", self.errors().await);
        }
    }

    /// Tells it a line.
    pub async fn tell(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.expect("the program reads");
    }

    /// Waits for its last line, and for its end with status 0.
    pub async fn summary(mut self) -> Value {
        let line = self.line().await;
        let status = must("the program's end", self.child.wait()).await.expect("it is our child");
        let errors = self.errors().await;
        assert!(status.success(), "{errors}");
        serde_json::from_str(&line.expect("a line")).expect("JSON")
    }

    async fn line(&mut self) -> Option<String> {
        must("a line of the program", self.stdout.next_line()).await.expect("readable")
    }

    async fn errors(&mut self) -> String {
        let _ = self.child.start_kill();
        (&mut self.stderr).await.expect("reading does not panic")
    }
}
