//! The program itself, as a user runs it: environment in, lines and an exit status out.

use std::fmt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use super::must;

/// Killed when dropped.
pub struct OpticProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
}

impl OpticProcess {
    /// Runs `optic ARGUMENTS…` with these variables and no others but `PATH`.
    pub fn spawn(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_optic"))
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("optic was built");
        let stdout = Lines::of(child.stdout.take().expect("piped"));
        let stderr = Lines::of(child.stderr.take().expect("piped"));
        Self { stdin: child.stdin.take(), child, stdout, stderr }
    }

    /// Waits for a line on standard error that contains this, and gives it.
    pub async fn wait_for_line(&self, containing: &str) -> String {
        self.stderr.wait_for("standard error", |line| line.contains(containing), containing).await
    }

    /// Waits until so many lines on standard error contain this.
    pub async fn wait_for_lines(&self, containing: &str, count: usize) {
        self.stderr.wait_for_count(containing, count).await;
    }

    /// Waits for a line on standard output that contains this, and gives it.
    pub async fn wait_for_output(&self, containing: &str) -> String {
        self.stdout.wait_for("standard output", |line| line.contains(containing), containing).await
    }

    /// The lines on standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.so_far()
    }

    /// The lines on standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    /// Writes a line to standard input.
    pub async fn write_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input was not closed");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("optic reads");
    }

    /// Closes our end of standard output: nobody reads it any more.
    pub fn close_stdout(&mut self) {
        self.stdout.close();
    }

    /// Bytes of memory that it has in use, and the most that it ever had.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs, on Linux");
        let kib = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of that name");
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
        };
        (kib("VmRSS") << 10, kib("VmHWM") << 10)
    }

    /// Ends standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// SIGTERM, as `docker stop` sends it.
    pub async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// SIGINT, as Ctrl-C sends it.
    pub async fn interrupt(&self) {
        self.signal("INT").await;
    }

    /// kill -9, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it ran");
    }

    /// Waits for its end and the last of its lines.
    pub async fn wait(&mut self) -> ExitStatus {
        let status = must("the end of optic", self.child.wait()).await.expect("it is our child");
        self.stdout.end().await;
        self.stderr.end().await;
        status
    }

    /// The process's number, while it runs.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// A signal by its name, without SIG.
    pub async fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]).status().await;
        assert!(status.expect("there is a shell").success(), "could not send SIG{name}");
    }
}

impl Drop for OpticProcess {
    /// A test that failed shows what it said.
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("optic's standard error:\n{}", self.stderr().join("\n"));
        }
    }
}

impl fmt::Debug for OpticProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpticProcess").field("id", &self.child.id()).finish_non_exhaustive()
    }
}

/// Lines as they come out of a pipe.
struct Lines(watch::Receiver<(Vec<String>, bool)>, tokio::task::AbortHandle);

impl Lines {
    fn of(pipe: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (sender, receiver) = watch::channel((Vec::new(), false));
        let task = tokio::spawn(async move {
            let mut lines = BufReader::new(pipe).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|(lines, _)| lines.push(line));
            }
            sender.send_modify(|(_, ended)| *ended = true);
        });
        Self(receiver, task.abort_handle())
    }

    /// Drops the pipe.
    fn close(&self) {
        self.1.abort();
    }

    fn so_far(&self) -> Vec<String> {
        self.0.borrow().0.clone()
    }

    async fn end(&self) {
        let mut lines = self.0.clone();
        // The sender is gone where the pipe was closed.
        let _ = must("the end of a pipe", lines.wait_for(|(_, ended)| *ended)).await;
    }

    async fn wait_for_count(&self, containing: &str, count: usize) {
        let enough = |lines: &[String]| lines.iter().filter(|line| line.contains(containing)).count() >= count;
        let mut lines = self.0.clone();
        let what = format!("{containing:?} {count} times");
        super::must(&what, lines.wait_for(|(lines, ended)| *ended || enough(lines))).await.expect("said at its end");
        assert!(enough(&self.so_far()), "optic ended before it printed {what}, but:\n{}", self.so_far().join("\n"));
    }

    async fn wait_for(&self, pipe: &str, wanted: impl Fn(&str) -> bool, what: &str) -> String {
        let mut lines = self.0.clone();
        let find = |lines: &[String]| lines.iter().find(|line| wanted(line)).cloned();
        let found = tokio::time::timeout(super::PATIENCE, async {
            let decided = lines.wait_for(|(lines, ended)| *ended || find(lines).is_some()).await;
            find(&decided.expect("said before the task's end").0)
        })
        .await;
        found.ok().flatten().unwrap_or_else(|| {
            panic!("optic did not print {what:?} on {pipe}, but:\n{}", self.so_far().join("\n"));
        })
    }
}
