//! A real browser, without a window: Chromium, driven by chromedriver, with a profile of its own.
//!
//! `OPTIC_TEST_CHROMEDRIVER` names the driver; else it is looked for on the PATH. Both programs end with the [`Browser`], however
//! the test ends, also where it ends before Chromium is there. What the browser complains of in its console fails the test: what its Content-Security-Policy forbade, above all.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use url::Url;

use super::{PATIENCE, must};

/// How large it is, and which colours its user likes.
#[derive(Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

impl Look {
    pub const DESK: Self = Self { width: 1280, height: 900, dark: false };
    pub const NIGHT: Self = Self { width: 1280, height: 900, dark: true };
    pub const PHONE: Self = Self { width: 360, height: 740, dark: true };
}

/// Killed when dropped.
pub struct Browser {
    client: Client,
    _driver: Driver,
    /// Deleted behind it.
    _profile: tempfile::TempDir,
}

/// chromedriver, at the head of a process group of its own: what it starts is in the group, whether it was told so or not.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        // As long as nobody waited for it the number is nobody else's.
        if let Some(id) = self.0.id() {
            let group = format!("-{id}");
            let kill = std::process::Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
            kill.expect("there is a kill");
        }
    }
}

/// A command of chromedriver that is not in the standard.
#[derive(Debug)]
struct Beyond {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Beyond {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.expect("it has begun"), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

impl Browser {
    /// Starts it. The name `optic.test` leads it to this machine, as a name of the network would.
    pub async fn start(look: Look) -> Self {
        let program = std::env::var("OPTIC_TEST_CHROMEDRIVER").unwrap_or_else(|_| "chromedriver".to_owned());
        let profile = tempfile::tempdir().expect("a folder");
        let driver = Command::new(&program)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} does not start ({error}): scripts/setup browser installs it"));
        let mut driver = Driver(driver);
        let mut lines = BufReader::new(driver.0.stdout.take().expect("piped")).lines();
        let port = must("chromedriver's port", async {
            loop {
                let line = lines.next_line().await.expect("readable").expect("chromedriver ended");
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    return port.trim_end_matches('.').to_owned();
                }
            }
        })
        .await;
        let capabilities = capabilities(profile.path().to_str().expect("text"), look);
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let driver_url = format!("http://127.0.0.1:{port}");
        let connecting = must("Chromium", builder.capabilities(capabilities).connect(&driver_url)).await;
        let client = connecting.unwrap_or_else(|error| panic!("Chromium does not start: {error}"));
        let browser = Self { client, _driver: driver, _profile: profile };
        browser.look(look).await;
        browser
    }

    /// Is so large from now on, and its user likes these colours.
    pub async fn look(&self, Look { width, height, dark }: Look) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = if dark { "dark" } else { "light" };
        // A click goes where a thing is, and not where it is on its way to.
        let still = json!({"name": "prefers-reduced-motion", "value": "reduce"});
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}, still]});
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    pub async fn goto(&self, url: &str) {
        must("the page", self.client.goto(url)).await.expect("it can be loaded");
    }

    /// What a script returns.
    pub async fn script(&self, script: &str) -> Value {
        let done = must("a script's end", self.client.execute(script, Vec::new())).await;
        done.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// What an expression is, once more and once more, until it is true; says what the page shows when it does not come to be.
    pub async fn until(&self, what: &str, expression: &str) {
        let script = format!("return Boolean({expression})");
        let waiting = async {
            while self.script(&script).await != json!(true) {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            self.picture("failed").await;
            panic!("gave up waiting: {what}: {expression}\n{}", self.script("return document.body.innerText").await);
        }
    }

    /// The visible text of an element.
    pub async fn text(&self, css: &str) -> String {
        let element = must("an element", self.client.find(Locator::Css(css))).await;
        element.unwrap_or_else(|error| panic!("{css}: {error}")).text().await.expect("text")
    }

    /// Clicks as a user does: what is hidden or covered cannot be.
    pub async fn click(&self, css: &str) {
        let element = must("an element", self.client.find(Locator::Css(css))).await;
        let element = element.unwrap_or_else(|error| panic!("{css}: {error}"));
        element.click().await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Types into it.
    pub async fn types(&self, css: &str, text: &str) {
        let element = must("an element", self.client.find(Locator::Css(css))).await;
        let element = element.unwrap_or_else(|error| panic!("{css}: {error}"));
        element.send_keys(text).await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Types to whatever has the focus.
    pub async fn keys(&self, text: &str) {
        let element = must("the focus", self.client.active_element()).await.expect("something has it");
        element.send_keys(text).await.expect("it takes keys");
    }

    /// What is visible, as `target/screenshots/NAME.png`.
    pub async fn picture(&self, name: &str) {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        std::fs::create_dir_all(&folder).expect("a folder");
        let png = must("a picture", self.client.screenshot()).await.expect("a picture");
        std::fs::write(folder.join(format!("{name}.png")), png).expect("it is written");
    }

    /// Asserts that the browser complained of nothing, but of answers that the network did not give; and ends it.
    pub async fn close(self) {
        let log = Beyond { path: "se/log", body: json!({"type": "browser"}) };
        let log = must("the console", self.client.issue_cmd(log)).await.expect("it has one");
        let complaints = log.as_array().expect("a list").iter();
        let complaints = complaints.filter(|line| line["level"] == "SEVERE" && line["source"] != "network");
        let complaints: Vec<String> = complaints.map(ToString::to_string).collect();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
        must("the end", self.client.clone().close()).await.expect("it ends");
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        let body = json!({"cmd": command, "params": parameters});
        let done = must("devtools", self.client.issue_cmd(Beyond { path: "goog/cdp/execute", body })).await;
        done.unwrap_or_else(|error| panic!("{command}: {error}"));
    }
}

fn capabilities(profile: &str, look: Look) -> Capabilities {
    let arguments = [
        "--headless=new".to_owned(),
        // As root, and where /dev/shm is small: in a container both are so.
        "--no-sandbox".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-gpu".to_owned(),
        "--hide-scrollbars".to_owned(),
        "--no-first-run".to_owned(),
        "--disable-background-networking".to_owned(),
        "--host-resolver-rules=MAP optic.test 127.0.0.1".to_owned(),
        format!("--window-size={},{}", look.width.max(500), look.height),
        format!("--user-data-dir={profile}"),
    ];
    let all = json!({
        "goog:chromeOptions": {"args": arguments},
        "goog:loggingPrefs": {"browser": "ALL"},
    });
    all.as_object().expect("an object").clone()
}
