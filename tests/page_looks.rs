//! The page in a real browser, before a cluster that there is not: sixteen processes with 1,024 shards, that do as a test says.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::{Browser, Look, is_without, must};
use futures_util::future::BoxFuture;
use optic::broker::BrokerState;
use optic::http::{ClientsError, Health, Lookout, Page, Readers, Server, Site, Snapshot};
use optic::secret::Secret;
use optic::seen::clients::{ClientsAnswer, ClientsQuestion};
use optic::seen::report::ShardState;
use optic::seen::{Report, Whole, simulated};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "hunter2.token.of.the.page";

/// A server of the page, and what it shows.
struct Shown {
    whole: watch::Sender<Arc<Whole>>,
    address: SocketAddr,
    server: Option<(CancellationToken, JoinHandle<()>)>,
}

struct Said(watch::Receiver<Arc<Whole>>);

impl Lookout for Said {
    fn look(&self) -> watch::Receiver<Arc<Whole>> {
        self.0.clone()
    }

    fn clients(&self, _: ClientsQuestion) -> BoxFuture<'static, Result<ClientsAnswer, ClientsError>> {
        Box::pin(std::future::ready(Err(ClientsError::Off)))
    }
}

struct Well;

impl Health for Well {
    fn snapshot(&self) -> Snapshot {
        Snapshot { shards: Vec::new(), broker: BrokerState::Connected, also_missing: Vec::new() }
    }
}

impl Shown {
    async fn start(processes: u32, shards: u32) -> Self {
        let whole = watch::Sender::new(Arc::new(simulated::whole(processes, shards)));
        let mut shown = Self { whole, address: SocketAddr::from(([127, 0, 0, 1], 0)), server: None };
        shown.serve(Some(TOKEN)).await;
        shown
    }

    /// Begins to serve, where it did before.
    async fn serve(&mut self, token: Option<&str>) {
        let readers = Arc::new(Readers::new(token.map(Secret::new)));
        let page = Page::new(readers, Arc::new(Said(self.whole.subscribe())));
        let server = Server::bind(self.address).await.expect("a free port");
        self.address = server.address();
        let stop = CancellationToken::new();
        let site = Site::new(Arc::new(Well)).with_page(page);
        self.server = Some((stop.clone(), tokio::spawn(server.run(site, stop))));
    }

    async fn stop(&mut self) {
        let (stop, server) = self.server.take().expect("it serves");
        stop.cancel();
        must("the server's end", server).await.expect("no panic");
    }

    /// Two seconds later all is so.
    fn says(&self, change: impl FnOnce(&mut Whole)) {
        self.whole.send_modify(|whole| {
            let mut next = Whole::clone(whole);
            next.at += 2000;
            change(&mut next);
            *whole = Arc::new(next);
        });
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

/// Changes what a process says.
fn report(whole: &mut Whole, process: usize, change: impl FnOnce(&mut Report)) {
    change(Arc::make_mut(&mut whole.processes[process].report));
}

const LIVE: &str = "document.body.dataset.state === 'live'";

/// How many tiles are in this state.
fn tiles(state: &str, count: usize) -> String {
    format!("document.querySelectorAll('.tile[data-state={state}]').length === {count}")
}

#[tokio::test]
async fn a_thousand_shards_are_shown_and_each_is_found() {
    if is_without("browser") {
        return;
    }
    let shown = Shown::start(16, 1024).await;
    let browser = Browser::start(Look::NIGHT).await;
    browser.goto(&shown.url()).await;
    browser.until("all tiles", &tiles("connected", 1024)).await;
    assert_eq!(browser.text("#t-shards").await, "1,024 of 1,024");
    assert_eq!(browser.text("#t-processes").await, "16 of 16");

    // What is wrong stands first, and among all tiles the wrong ones are found.
    shown.says(|whole| {
        report(whole, 0, |report| {
            report.shards[3].state = ShardState::Resuming;
            report.shards[5].state = ShardState::Ended;
            report.shards[5].last_disconnect = Some("4014: these intents are not allowed".to_owned());
        });
        whole.processes[11].answers = false;
    });
    browser.until("a problem", "document.querySelector('#problems li')").await;
    browser.until("the end of shard 5", &tiles("ended", 1)).await;
    let problems = browser.text("#problems").await;
    assert!(problems.contains("4014: these intents are not allowed") && problems.contains("optic-11"), "{problems}");
    assert_eq!(browser.text(".tile[data-state=resuming] .sign").await, "↻");
    assert_eq!(browser.text(".tile[data-state=resuming] .number").await, "3");
    // A problem that goes on is told anew, and not read out anew.
    browser.script("document.querySelector('#problems li:nth-child(2)').wasThere = true").await;
    shown.says(|_| {});
    browser
        .until(
            "a longer silence",
            "/optic-11 has not answered for 4 s/.test(document.querySelector('#problems').innerText)",
        )
        .await;
    assert_eq!(
        browser.script("return document.querySelector('#problems li:nth-child(2)').wasThere").await,
        json!(true)
    );
    browser.until("the tab tells it", "/^▲ \\d+ · Optic · gateway$/.test(document.title)").await;
    browser.picture("thousand-shards-dark").await;
    browser.click("#chips [data-state=ended]").await;
    let shown_tiles = "return [...document.querySelectorAll('.tile:not([hidden]) .number')].map((n) => n.textContent)";
    assert_eq!(browser.script(shown_tiles).await, json!(["5"]));
    browser.click("#chips button").await;

    // By process, by number, and by a guild's id.
    browser.script("const by = document.querySelector('#by-process'); by.selectedIndex = 2; by.dispatchEvent(new Event('change'))").await;
    let name = browser.script("return document.querySelector('#by-process').selectedOptions[0].textContent").await;
    let owned = browser.script(shown_tiles).await;
    assert_eq!(owned.as_array().map(Vec::len), Some(64), "{name}");
    browser
        .script(
            "const by = document.querySelector('#by-process'); by.value = ''; by.dispatchEvent(new Event('change'))",
        )
        .await;
    let guild = (12_345_678_901_u64 << 22) + 77;
    browser.types("#find", &guild.to_string()).await;
    let shard = 12_345_678_901_u64 % 1024;
    assert_eq!(browser.text("#found").await, format!("Guild {guild} is on shard {shard}."));
    assert_eq!(browser.script(shown_tiles).await, json!([shard.to_string()]));
    assert_eq!(browser.text("#shard h3").await, format!("Shard {shard}"));
    browser
        .script(
            "const find = document.querySelector('#find'); find.value = '1024'; find.dispatchEvent(new Event('input'))",
        )
        .await;
    assert_eq!(browser.text("#found").await, "There is no shard 1024: the last is 1023.");
    browser
        .script("const find = document.querySelector('#find'); find.value = ''; find.dispatchEvent(new Event('input'))")
        .await;

    // By the keyboard alone: one tile can be reached by Tab, the arrows go on from there.
    assert_eq!(browser.script("return document.querySelectorAll('.tile[tabindex=\"0\"]').length").await, json!(1));
    browser.script("document.querySelector('.tile[tabindex=\"0\"]').focus()").await;
    browser.keys("\u{e010}").await; // End
    assert_eq!(browser.text("#shard h3").await, "Shard 1023");
    browser.keys("\u{e011}\u{e014}\u{e015}").await; // Home, right, down
    let below = browser
        .script("return 1 + getComputedStyle(document.querySelector('#tiles')).gridTemplateColumns.split(' ').length")
        .await;
    assert_eq!(browser.text("#shard h3").await, format!("Shard {below}"));

    // Charts come from the server, and nothing in them runs.
    browser.until("three charts", "document.querySelectorAll('.chart svg path').length >= 3").await;
    assert_eq!(
        browser.script("return document.querySelectorAll('svg script, svg [onclick], svg [style]').length").await,
        json!(0)
    );
    browser.close().await;
}

#[tokio::test]
async fn without_its_server_the_page_says_since_when_and_comes_back_by_itself() {
    if is_without("browser") {
        return;
    }
    let mut shown = Shown::start(2, 16).await;
    let browser = Browser::start(Look::DESK).await;
    browser.goto(&shown.url()).await;
    browser.until("all tiles", &tiles("connected", 16)).await;
    browser.until("three charts", "document.querySelectorAll('.chart svg').length === 3").await;
    assert!(browser.text("#problems").await.contains("Nothing is wrong."));
    browser.picture("light").await;
    shown.stop().await;
    browser.until("that it is lost", "document.body.dataset.state === 'lost'").await;
    let words = browser.text("#lost").await;
    assert!(words.contains("Connection lost since ") && words.contains("What you see is as of "), "{words}");
    browser
        .until("that it tries once more", "/Next try in/.test(document.querySelector('#lost-next').textContent)")
        .await;
    // What was known is still there.
    assert_eq!(browser.text("#t-shards").await, "16 of 16");
    assert!(browser.script("return document.title").await.as_str().expect("text").starts_with("✕ Optic"));
    browser.picture("connection-lost").await;
    shown.serve(Some(TOKEN)).await;
    browser.until("that it is back", LIVE).await;
    browser.until("that nothing is said of a loss", "document.querySelector('#lost').hidden").await;
    browser.close().await;
}

#[tokio::test]
async fn from_elsewhere_the_page_asks_for_the_token() {
    if is_without("browser") {
        return;
    }
    let mut shown = Shown::start(2, 16).await;
    let browser = Browser::start(Look::NIGHT).await;
    let elsewhere = format!("http://optic.test:{}/", shown.address.port());
    browser.goto(&elsewhere).await;
    browser.until("the door", "!document.querySelector('#door').hidden").await;
    // It stands where the cursor is, and nothing else is shown.
    browser.until("the cursor", "document.activeElement.id === 'door-token'").await;
    assert_eq!(browser.script("return document.querySelector('#data').hidden").await, json!(true));
    browser.picture("token").await;
    browser.keys("a wrong one\u{e007}").await;
    browser.until("a refusal", "document.querySelector('#door-error').textContent === 'The token is wrong.'").await;
    browser.keys(&format!("{TOKEN}\u{e007}")).await;
    browser.until("all tiles", &tiles("connected", 16)).await;
    browser.until("three charts", "document.querySelectorAll('.chart svg').length === 3").await;
    // It is kept in this tab, and nowhere else.
    let kept = "return [Object.values(sessionStorage), Object.values(localStorage), document.cookie]";
    assert_eq!(browser.script(kept).await, json!([[TOKEN], [], ""]));
    browser.goto(&elsewhere).await;
    browser.until("that it is let in at once", LIVE).await;

    // Without a token there is no way in, and the page says what to do.
    shown.stop().await;
    shown.serve(None).await;
    browser.goto(&elsewhere).await;
    browser.until("the door", "!document.querySelector('#door').hidden").await;
    assert!(browser.text("#door").await.contains("HTTP_TOKEN: set it"));
    assert_eq!(browser.script("return document.querySelector('#door-form').hidden").await, json!(true));
    browser.close().await;
}

/// Whoever sees little, or has no pointer, or a small screen.
const FAULTS: &str = r"
    const faults = [];
    if (document.querySelectorAll('h1').length !== 1) faults.push('not one h1');
    for (const part of ['header', 'main', 'nav', 'footer']) if (!document.querySelector(part)) faults.push(`no ${part}`);
    if (!document.documentElement.lang) faults.push('no language');
    for (const input of document.querySelectorAll('input, select, textarea')) if (!input.labels.length) faults.push(`no label: ${input.id}`);
    for (const button of document.querySelectorAll('button')) if (!button.hidden && !button.textContent.trim() && !button.ariaLabel && button.id !== 'sure-yes') faults.push(`no name: ${button.outerHTML}`);
    for (const table of document.querySelectorAll('table')) if (!table.caption?.textContent) faults.push('a table without a caption');
    for (const section of document.querySelectorAll('section')) if (!document.getElementById(section.getAttribute('aria-labelledby'))) faults.push(`no heading: ${section.id}`);
    for (const tile of document.querySelectorAll('.tile')) if (!/^Shard \d+, \w+/.test(tile.ariaLabel) || tile.role !== 'option') faults.push(`no name: ${tile.textContent}`);
    const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);
    for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push(`twice: ${id}`);
    for (const node of document.querySelectorAll('[aria-describedby]')) for (const id of node.getAttribute('aria-describedby').split(' ')) if (!ids.includes(id)) faults.push(`not there: ${id}`);
    for (const live of document.querySelectorAll('[aria-live]')) if (live.id !== 'problems') faults.push(`spoken all the time: ${live.id}`);

    // Contrast of text, as WCAG 2 computes it, on the nearest background that there is.
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const colour = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
    const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (node) => { for (; node; node = node.parentElement) { const found = colour(getComputedStyle(node).backgroundColor); if (found[3] === 255) return found; } return [255, 255, 255]; };
    const seen = new Set();
    for (const node of document.querySelectorAll('body *')) {
        if (!node.checkVisibility() || node.closest('svg') || ![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())) continue;
        const [front, back] = [colour(getComputedStyle(node).color), behind(node)];
        // Signs stand beside their word: three times is enough for what is no text.
        const wanted = node.classList.contains('sign') || node.id === 'link-sign' ? 3 : 4.5;
        const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        const pair = `${node.tagName}.${node.className} ${front} on ${back}: ${contrast.toFixed(2)}`;
        if (contrast < wanted && !seen.has(pair)) { seen.add(pair); faults.push(pair); }
    }
    return faults";

#[tokio::test]
async fn everybody_can_read_it_in_both_themes_and_on_a_phone() {
    if is_without("browser") {
        return;
    }
    let shown = Shown::start(2, 16).await;
    // Each state that a shard can be in, a command set aside, a queue that nobody reads.
    shown.says(|whole| {
        use ShardState::{
            Connected, Connecting, Disconnected, Ended, Identifying, Paused, Resuming, Suspended, Waiting,
        };
        let states = [Connected, Paused, Disconnected, Connecting, Waiting, Identifying, Resuming, Suspended];
        report(whole, 0, |report| {
            for (shard, state) in report.shards.iter_mut().zip(states) {
                shard.state = state;
            }
            report.queues[0].consumers = 0;
            report.queues[0].messages = 53_211;
        });
        report(whole, 1, |report| {
            report.shards[0].state = Ended;
            report.shards.pop();
        });
    });
    let browser = Browser::start(Look::DESK).await;
    browser.goto(&shown.url()).await;
    for (name, look) in [("desk", Look::DESK), ("night", Look::NIGHT), ("phone", Look::PHONE)] {
        browser.look(look).await;
        browser.until("all tiles", &tiles("nobody", 1)).await;
        browser.until("three charts", "document.querySelectorAll('.chart svg').length === 3").await;
        browser.script("document.querySelector('.tile[data-state=resuming]').focus()").await;
        assert_eq!(browser.script(FAULTS).await, json!([]), "{name}");
        let widths = browser.script("return [document.documentElement.scrollWidth, innerWidth]").await;
        assert_eq!(widths, json!([look.width, look.width]), "{name} scrolls sideways");
        browser.script("scrollTo(0, 0)").await;
        browser.picture(name).await;
    }
    // Who does not like what the system says, says so; it is remembered.
    browser.look(Look::DESK).await;
    browser.script("const theme = document.querySelector('#theme'); theme.value = 'dark'; theme.dispatchEvent(new Event('change'))").await;
    let background = "return getComputedStyle(document.body).backgroundColor";
    let dark = browser.script(background).await;
    browser.goto(&shown.url()).await;
    browser.until("all tiles", &tiles("nobody", 1)).await;
    assert_eq!(browser.script(background).await, dark);
    assert_eq!(dark, json!("rgb(16, 19, 23)"));
    browser.close().await;
}

#[tokio::test]
async fn without_a_bot_the_page_says_what_is_off() {
    if is_without("browser") {
        return;
    }
    let shown = Shown::start(1, 0).await;
    let browser = Browser::start(Look::DESK).await;
    browser.goto(&shown.url()).await;
    browser.until("it is there", LIVE).await;
    browser.until("why there is no tile", "document.querySelector('#tiles-none').checkVisibility()").await;
    assert!(browser.text("#tiles-none").await.starts_with("No shards yet"));
    assert!(browser.text("#singyeong").await.contains("Off: no process of this group serves 신경."));
    assert!(browser.text("#amybot").await.contains("Off: no process of this group serves amybot."));
    browser.picture("empty").await;
    browser.close().await;
}
