//! The page in a real browser, before a cluster that there is not: sixteen processes with 1,024 shards, that do as a test says.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{Browser, Look, is_without, lasting_address, must};
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
        let address = lasting_address().parse().expect("an address");
        let mut shown = Self { whole, address, server: None };
        shown.serve(Some(TOKEN)).await;
        shown
    }

    /// Begins to serve, where it did before.
    async fn serve(&mut self, token: Option<&str>) {
        let readers = Arc::new(Readers::new(token.map(Secret::new)));
        let page = Page::new(readers, Arc::new(Said(self.whole.subscribe())));
        // Another test may try out the address at this moment.
        let server = must("the address", async {
            loop {
                match Server::bind(self.address).await {
                    Ok(server) => return server,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        })
        .await;
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

#[tokio::test]
async fn what_stays_keeps_its_place_and_the_focus_and_is_not_read_out_again() {
    if is_without("browser") {
        return;
    }
    let shown = Shown::start(2, 16).await;
    let told = |messages: u64, fifth: ShardState| {
        shown.says(|whole| {
            report(whole, 0, |report| {
                report.shards[3].state = ShardState::Resuming;
                report.shards[5].state = fifth;
                report.queues[0].consumers = 0;
                report.queues[0].messages = messages;
            });
        });
    };
    told(12, ShardState::Ended);
    let browser = Browser::start(Look::DESK).await;
    browser.goto(&shown.url()).await;
    browser.until("a problem", "/12 messages/.test(document.querySelector('#problems').innerText)").await;
    browser
        .script(
            "window.chip = document.querySelector('#chips [data-state=resuming]');
            chip.focus();
            window.added = 0;
            const counts = (changes) => changes.forEach((change) => { added += change.addedNodes.length; });
            new MutationObserver(counts).observe(document.querySelector('#problems ul'), { childList: true });
            new MutationObserver(counts).observe(document.querySelector('#chips'), { childList: true })",
        )
        .await;
    told(1313, ShardState::Connected);
    browser.until("more of it", "/1,?313 messages/.test(document.querySelector('#problems').innerText)").await;
    browser
        .until("the end of the first problem", "!/shard 5/.test(document.querySelector('#problems').innerText)")
        .await;
    assert_eq!(
        browser.script("return [document.activeElement === chip, chip.dataset.state, added]").await,
        json!([true, "resuming", 0])
    );

    // As few as can be move; what has the focus keeps it also when it moves.
    let moves = "return import('/words.js').then(async ({ keyed, make }) => {
        const list = document.body.appendChild(make('div', {}, make('p', { text: 'of nobody' })));
        const show = (text) => keyed(list, [...text], (one) => one, (one) => make('button', { text: one }));
        const seen = [];
        const observer = new MutationObserver((changes) => seen.push(...changes));
        observer.observe(list, { childList: true });
        const found = [];
        for (const text of ['abcd', 'bcda', 'xbda', 'dxab', '', 'ab']) {
            show(text);
            if (text === 'abcd') list.querySelector('button').focus();
            const moved = observer.takeRecords().reduce((sum, change) => sum + change.addedNodes.length, 0);
            found.push([list.textContent === text, moved, document.activeElement.textContent]);
        }
        return found.map(([right, moved, focus], at) => right ? (at === 0 || at > 3 ? moved : [moved, focus]) : 'wrong');
    })";
    assert_eq!(browser.script(moves).await, json!([4, [1, "a"], [1, "a"], [2, "a"], 0, 2]));
    browser.close().await;
}

#[tokio::test]
async fn who_is_not_let_in_for_a_while_keeps_what_was_known_and_tries_again() {
    if is_without("browser") {
        return;
    }
    let shown = Shown::start(2, 16).await;
    let browser = Browser::start(Look::DESK).await;
    browser.goto(&shown.url()).await;
    browser.script(&format!("sessionStorage.setItem('optic-token', '{TOKEN}')")).await;
    browser.goto(&shown.url()).await;
    browser.until("all tiles", &tiles("connected", 16)).await;
    let answers = |status: u16, words: &str| {
        format!(
            "window.real ??= fetch;
            window.fetch = (path, options) => path === '/api/live' ? Response.json({{ error: '{words}' }}, {{ status: {status} }}) : real(path, options);
            document.querySelector('#lost-now').click()"
        )
    };
    for (status, words) in [(429, "too many wrong tokens"), (503, "too many look"), (403, "nobody")] {
        browser.script(&answers(status, words)).await;
        if status == 403 {
            browser.until("the door", "document.body.dataset.state === 'door'").await;
        } else {
            browser.until("why", &format!("/{words}/.test(document.querySelector('#lost-words').textContent)")).await;
            assert_eq!(browser.script("return document.body.dataset.state").await, json!("lost"));
            assert_eq!(browser.text("#t-shards").await, "16 of 16");
        }
        // By itself.
        browser.script("window.fetch = real").await;
        browser.until("that it is back", LIVE).await;
    }
    browser.script(&answers(401, "no")).await;
    browser.until("the door", "document.body.dataset.state === 'door'").await;
    assert_eq!(browser.script("return sessionStorage.length").await, json!(0));
    browser.close().await;
}

#[tokio::test]
async fn a_chart_that_does_not_come_is_old_and_is_asked_for_again() {
    if is_without("browser") {
        return;
    }
    let shown = Shown::start(2, 16).await;
    let browser = Browser::start(Look::DESK).await;
    browser.goto(&shown.url()).await;
    browser.until("three charts", "document.querySelectorAll('.chart svg').length === 3").await;
    // No answer comes, and twenty seconds go by at once.
    browser
        .script(
            "window.real = fetch;
            window.held = [];
            const of = (path, options, answer) => path.startsWith('/api/chart/') ? answer : () => real(path, options);
            window.fetch = (path, options) => of(path, options, () => new Promise((answer) => held.push({ path, options, answer })))();
            window.then = Date.now;
            Date.now = () => then() + 20000",
        )
        .await;
    browser.until("that all are old", "document.querySelectorAll('.chart.old svg').length === 3").await;
    let said = "return getComputedStyle(document.querySelector('figcaption'), '::after').content";
    assert_eq!(browser.script(said).await, json!("\" · old\""));
    browser.until("that all are asked for", "held.length === 3").await;
    assert_eq!(
        browser.script("return held.every(({ options }) => options.signal instanceof AbortSignal)").await,
        json!(true)
    );
    browser.script("Date.now = then; for (const { path, answer } of held) answer(real(path))").await;
    browser.until("that all are new", "document.querySelectorAll('.chart.old').length === 0").await;
    // What never comes is given up.
    browser
        .script(
            "const timeout = AbortSignal.timeout.bind(AbortSignal);
            AbortSignal.timeout = (after) => timeout(after / 10000);
            window.given = 0;
            const never = (signal) => new Promise((_, give) => signal.addEventListener('abort', () => { given += 1; give(signal.reason); }));
            window.fetch = (path, options) => path.startsWith('/api/chart/') ? never(options.signal) : real(path, options)",
        )
        .await;
    browser.until("a second try of each", "given >= 6").await;
    browser.close().await;
}

/// From now on the page is told what it would be told, changed by this function of a state.
fn changed(change: &str) -> String {
    format!(
        "window.real ??= fetch;
        const change = (state) => {{ state.problems = []; {change} }};
        window.fetch = async (path, options) => {{
            const answer = await real(path, options);
            if (path !== '/api/live') return answer;
            let text = '';
            const states = new TransformStream({{
                transform(piece, out) {{
                    const events = (text + piece).split('\\n\\n');
                    text = events.pop();
                    for (const event of events) {{
                        const data = event.split('\\n').find((line) => line.startsWith('data:'));
                        if (!data) continue;
                        const state = JSON.parse(data.slice(5));
                        change(state);
                        out.enqueue(`event: state\\ndata: ${{JSON.stringify(state)}}\\n\\n`);
                    }}
                }},
            }});
            const parts = answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(states).pipeThrough(new TextEncoderStream());
            return new Response(parts);
        }};
        document.querySelector('#lost-now').click()"
    )
}

#[tokio::test]
async fn what_is_not_known_is_called_so_and_alarms_nobody() {
    if is_without("browser") {
        return;
    }
    let shown = Shown::start(2, 16).await;
    let browser = Browser::start(Look::DESK).await;
    browser.goto(&shown.url()).await;
    browser.until("all tiles", &tiles("connected", 16)).await;
    let is_bad = "return document.querySelector('#t-shards').parentNode.matches('.bad')";
    let colour = |state: &str| {
        format!("return getComputedStyle(document.querySelector('.tile[data-state={state}]')).backgroundColor")
    };
    let neutral = json!("rgb(169, 177, 186)");

    // A shard whose process does not answer.
    let change = "state.shards[0][1] = 'unknown'; state.shards[0][10] = 3; Object.assign(state.publishing, { rate: null, of: 1, processes: 2 })";
    browser.script(&changed(change)).await;
    browser.until("it", &tiles("unknown", 1)).await;
    assert_eq!(browser.text(".tile[data-state=unknown] .sign").await, "?");
    assert_eq!(browser.text("#chips [data-state=unknown]").await, "?\nunknown 1");
    assert_eq!(browser.script(&colour("unknown")).await, neutral);
    assert_eq!(browser.text("#t-shards").await, "15 of 16");
    assert!(browser.text("#t-shards-more").await.ends_with("1 shard not known"));
    assert_eq!(browser.script(is_bad).await, json!(false));
    assert_eq!(browser.text("#t-latency-more").await, "how many is not known yet · of 1 of 2 processes");
    browser.click(".tile").await;
    let shard = browser.text("#shard").await;
    assert!(shard.contains("unknown: its process does not answer") && shard.contains("optic-0"), "{shard}");
    assert!(shard.contains("Events lost\n3 times"), "{shard}");

    // A shard of a process that was not heard yet; the same is an alarm when all were.
    for partial in [true, false] {
        let change = format!("state.partial = {partial}; state.shards[1][1] = 'nobody'; state.shards[1][2] = null");
        browser.script(&changed(&change)).await;
        let words = if partial { "Looking at all processes …" } else { "Nothing is wrong." };
        browser.until(words, &format!("document.querySelector('#problems .fine').innerText.includes('{words}')")).await;
        browser.until("it", &tiles("nobody", 1)).await;
        assert_eq!(browser.script(is_bad).await, json!(!partial));
        assert_eq!(browser.script(&colour("nobody")).await == neutral, partial);
    }

    // Who runs alone has the shards that it was told to run.
    browser
        .script(&changed("state.shard_count = 32; state.processes.forEach((process) => { process.mode = 'alone'; })"))
        .await;
    browser.until("all of them", "document.querySelector('#t-shards').textContent === '16 of 16'").await;

    // Of queues nothing is said before they were looked at, and where there are none.
    let unbound =
        "state.events = [{ ...state.events[0], name: 'MADE_UP', fate: 'published', messages: null, consumers: null }];";
    for (more, says) in [("state.queues = []", false), ("", true), ("state.publishing = null", false)] {
        browser.script(&changed(&format!("{unbound} {more}; state.group = 'of {}'", more.len()))).await;
        let group = format!("document.querySelector('#group').textContent === 'of {}'", more.len());
        browser.until("the state", &group).await;
        let line = browser.text("#events p").await;
        assert_eq!(line.contains("MADE_UP has no queue of that name"), says, "{more}: {line}");
        assert!(says || !line.contains("has a queue with a consumer"), "{line}");
    }
    browser.close().await;
}
