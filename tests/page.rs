//! The page in a real browser, before the real thing: Optic, a simulated Discord, RabbitMQ, 신경's clients and amybot's services.

mod common;

use common::{
    Bed, Browser, Fleet, Look, OpticProcess, SingyeongBed, SingyeongClient, broker, is_without, must, unique_group,
};
use futures_util::{SinkExt, StreamExt};
use optic::simulator::Settings;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Message;

/// More than a number of JavaScript tells from the next.
const GUILD: u64 = 175_928_847_299_117_063;

const TOKEN: &str = "hunter2.token.of.the.page";

/// Where a process serves its page.
async fn page_of(optic: &OpticProcess) -> String {
    format!("http://{}/", address(&optic.wait_for_line("health is served").await))
}

fn address(line: &str) -> String {
    let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
    address.expect("the line has it").to_owned()
}

/// How many tiles are in this state.
fn tiles(state: &str, count: usize) -> String {
    format!("document.querySelectorAll('.tile[data-state={state}]').length === {count}")
}

#[tokio::test]
async fn shards_appear_go_down_when_discord_drops_them_and_come_back() {
    if is_without("browser") {
        return;
    }
    let bed =
        Bed::new(&broker(), Settings { recommended_shards: 4, max_concurrency: 4, guilds: 40, ..Bed::settings() });
    let mut optic = bed.optic();
    let browser = Browser::start(Look::NIGHT).await;
    browser.goto(&page_of(&optic).await).await;
    browser.until("four shards", &tiles("connected", 4)).await;
    browser.until("the sum of them", "document.querySelector('#t-shards').textContent === '4 of 4'").await;
    browser.until("all guilds", "document.querySelector('#t-shards-more').textContent === '40 guilds'").await;
    let fine = "!document.querySelector('#problems li') && document.querySelector('#problems .fine').checkVisibility()";
    browser.until("that nothing is wrong", fine).await;

    // Events come, and the page tells which, what becomes of them, and how fast.
    bed.gateway.control("start", "rate=50");
    browser.until("events", "/MESSAGE_CREATE/.test(document.querySelector('#events table').innerText)").await;
    browser.until("a rate", "parseFloat(document.querySelector('#t-rate').textContent) > 1").await;
    browser.until("a latency", "/ ms$/.test(document.querySelector('#t-latency').textContent)").await;
    browser.until("what becomes of them", "/published/.test(document.querySelector('#events table').innerText)").await;
    browser.until("charts", "document.querySelectorAll('.chart svg path').length >= 3").await;

    // Discord lets nobody come back: each is told to reconnect in place of Hello.
    bed.gateway.control("hello-reconnect", "count=1000000");
    bed.gateway.control("drop", "");
    browser.until("that all are down", &tiles("connected", 0)).await;
    browser.until("a problem", "document.querySelectorAll('#problems li').length > 0").await;
    browser.until("the sum of them", "document.querySelector('#t-shards').textContent === '0 of 4'").await;
    browser.picture("discord-is-away").await;
    bed.gateway.control("hello-reconnect", "count=0");
    browser.until("that all are back", &tiles("connected", 4)).await;
    browser.until("that nothing is wrong any more", fine).await;
    browser.click(".tile").await;
    browser.until("a resume", "/Resumes\\s+[1-9]/.test(document.querySelector('#shard').innerText)").await;

    // One is refused for good, and the page says which and why.
    bed.gateway.control("close", "code=4014&shard=1");
    browser.until("that one has ended", &tiles("ended", 1)).await;
    browser.until("why", "/shard 1 .*4014/.test(document.querySelector('#problems').innerText)").await;
    assert_eq!(browser.text(".tile[data-state=ended] .number").await, "1");

    // Without Optic, what was known stays, and says that it is old.
    optic.kill().await;
    browser.until("that it is lost", "document.body.dataset.state === 'lost'").await;
    assert!(browser.text("#lost").await.contains("Connection lost since "));
    browser.close().await;
}

#[tokio::test]
async fn the_page_of_either_process_shows_all_shards_and_whose_they_are() {
    if is_without("browser") {
        return;
    }
    let settings = Settings { recommended_shards: 6, max_concurrency: 6, ..Bed::settings() };
    let bed = Bed::new(&broker(), settings).with("CLUSTER_MODE", "leased");
    let mut fleet = Fleet::of(&bed);
    fleet.start("north");
    fleet.start("south");
    fleet.shared_as(&[3, 3]).await;
    let browser = Browser::start(Look::DESK).await;
    for node in ["north", "south"] {
        browser.goto(&page_of(fleet.process(node)).await).await;
        browser.until("all shards", &tiles("connected", 6)).await;
        browser.until("both processes", "document.querySelector('#t-processes').textContent === '2 of 2'").await;
        let owners = browser
            .script("return [...document.querySelectorAll('.tile .facts')].map((facts) => facts.lastChild.textContent).sort()")
            .await;
        assert_eq!(owners, json!(["north", "north", "north", "south", "south", "south"]));
        let here = browser.text("#processes table").await;
        assert!(here.contains(&format!("{node} (this page)")), "{here}");
    }
    // One is killed: the other's page says so, and has its shards at last.
    browser.goto(&page_of(fleet.process("north")).await).await;
    browser.until("all shards", &tiles("connected", 6)).await;
    fleet.kill("south").await;
    browser.until("a problem", "/south/.test(document.querySelector('#problems').innerText)").await;
    let all = "[...document.querySelectorAll('.tile .facts')].filter((f) => f.lastChild.textContent === 'north').length === 6";
    browser.until("that it runs all", all).await;
    browser.until("all shards", &tiles("connected", 6)).await;
    browser.close().await;
}

#[tokio::test]
async fn the_query_box_tells_whom_a_target_means_and_why_not_the_others() {
    if is_without("browser") {
        return;
    }
    let bed = SingyeongBed::new().with("HTTP_ADDRESS", "127.0.0.1:0");
    let server = bed.start().await;
    let mut clients = Vec::new();
    for (name, shards) in [("worker-a", json!([0, 1])), ("worker-b", json!([2, 3]))] {
        let mut client = SingyeongClient::identify(&server.address, "worker", name).await;
        let shards =
            json!({"shards": {"type": "list", "value": shards}, "note": {"type": "string", "value": "<b>bold</b>"}});
        client.dispatch("UPDATE_METADATA", shards).await;
        let guild = if name == "worker-a" { GUILD } else { GUILD + 1 };
        client.dispatch("UPDATE_METADATA", json!({"guild": {"type": "integer", "value": guild}})).await;
        assert!(client.settled().await);
        clients.push(client);
    }
    let browser = Browser::start(Look::DESK).await;
    browser.goto(&page_of(&server.optic).await).await;
    browser.until("both clients", "/^2 clients/.test(document.querySelector('#singyeong-line').textContent)").await;

    // Without a target: everybody. What clients say of themselves is text, whatever it looks like.
    browser.click("#ask button").await;
    browser.until("everybody", "/^2 clients/.test(document.querySelector('#answer-line').textContent)").await;
    assert_eq!(browser.script("return document.querySelectorAll('#answer b').length").await, json!(0));

    let target =
        r#"{ "application": "worker", "ops": [{ "path": "/shards", "op": "$contains", "to": { "value": 3 } }] }"#;
    // Typed by hand, and sent without the pointer.
    browser.types("#target", &format!("{target}\u{e009}\u{e007}\u{e000}")).await;
    browser
        .until("one of them", "/^1 of 2 clients matches/.test(document.querySelector('#answer-line').textContent)")
        .await;
    let rows = "return [...document.querySelectorAll('#answer tbody tr')].map((row) => [row.children[2].innerText, row.children[0].innerText])";
    let rows = browser.script(rows).await;
    assert_eq!(rows[0][0], "worker-b");
    assert!(rows[0][1].as_str().expect("text").contains("matches"), "{rows}");
    let why = rows[1][1].as_str().expect("text");
    assert!(rows[1][0] == "worker-a" && why.contains("/shards") && why.contains('3'), "{rows}");
    assert!(browser.text("#answer-send").await.starts_with("A SEND with this target "));
    browser.script("document.querySelector('#answer').scrollIntoView({ block: 'end' })").await;
    browser.picture("query").await;

    // A number is asked for as it was typed, and shown as it was told: JavaScript's own end at 2^53.
    browser
        .script(
            "const real = fetch;
            window.fetch = async (path, options) => {
                const answer = await real(path, options);
                if (path !== '/api/singyeong/clients') return answer;
                const told = await answer.json();
                for (const client of told.clients ?? []) client.metadata_text = client.client === 'worker-a' ? '{\"guild\":175928847299117063,\"note\":\"cut…' : '';
                return Response.json(told, { status: answer.status });
            };
            document.querySelector('#target').value = ''",
        )
        .await;
    let target = format!(r#"{{ "ops": [{{ "path": "/guild", "op": "$eq", "to": {{ "value": {GUILD} }} }}] }}"#);
    browser.types("#target", &format!("{target}\u{e009}\u{e007}\u{e000}")).await;
    let first = "document.querySelector('#answer tbody tr').children[2].innerText === 'worker-a'";
    browser.until("the other of them", first).await;
    assert!(browser.text("#answer-line").await.starts_with("1 of 2 clients matches"));
    browser.click("#answer summary").await;
    assert_eq!(browser.text("#answer pre").await, format!("{{\n  \"guild\": {GUILD},\n  \"note\": \"cut…"));
    let other = browser.script("return document.querySelectorAll('#answer pre')[1].textContent").await;
    assert!(other.as_str().expect("text").contains("\n    2,\n    3\n"), "{other}");

    // What is no JSON is told with its place; what is no target, by what 신경 says.
    let clear = "document.querySelector('#target').value = ''";
    browser.script(clear).await;
    browser.types("#target", "{ \"application\": worker }").await;
    browser.click("#ask button").await;
    browser.until("the place", "/line 1, column 18/.test(document.querySelector('#target-error').textContent)").await;
    browser.script(clear).await;
    browser
        .types(
            "#target",
            r#"{ "application": "worker", "ops": [{ "path": "/a", "op": "$like", "to": { "value": 1 } }] }"#,
        )
        .await;
    browser.click("#ask button").await;
    browser
        .until("the operator", "/there is no operator/.test(document.querySelector('#target-error').textContent)")
        .await;
    drop(clients);
    browser.close().await;
    server.stop().await;
}

#[tokio::test]
async fn each_example_of_a_target_tells_clients_apart() {
    if is_without("browser") {
        return;
    }
    let bed = SingyeongBed::new().with("HTTP_ADDRESS", "127.0.0.1:0").with("SINGYEONG_AUTH", "opensesame");
    let server = bed.start().await;
    let mut clients = Vec::new();
    let of_all = [
        ("worker", "near", true, json!([0, 1]), "eu", 40, 0.9),
        ("worker", "far", true, json!([2, 3]), "us", 30, 0.2),
        ("worker", "farther", true, json!([4]), "us", 20, 0.8),
        ("worker", "stranger", false, json!([]), "us", 90, 0.9),
        ("music", "player", true, json!([3]), "eu", 10, 0.1),
    ];
    for (application, name, knows, shards, region, latency, load) in of_all {
        let auth = if knows { json!("opensesame") } else { Value::Null };
        let identify = json!({"application_id": application, "client_id": name, "auth": auth});
        let client = SingyeongClient::identify_with(&server.address, identify).await;
        let mut client = client.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        let metadata = json!({
            "shards": {"type": "list", "value": shards},
            "region": {"type": "string", "value": region},
            "latency": {"type": "integer", "value": latency},
            "load": {"type": "float", "value": load},
        });
        client.dispatch("UPDATE_METADATA", metadata).await;
        assert!(client.settled().await);
        clients.push(client);
    }
    let browser = Browser::start(Look::DESK).await;
    browser.goto(&page_of(&server.optic).await).await;
    browser.until("all clients", "/^5 clients/.test(document.querySelector('#singyeong-line').textContent)").await;
    let examples = "return [...document.querySelectorAll('#examples option')].slice(1).map((one) => one.textContent)";
    let expected = json!({
        "every client of an application": ["far", "farther", "near"],
        "who has shard 3": ["far"],
        "the least busy one": ["farther"],
        "one in Europe, else anywhere": ["near"],
        "either of two things": ["far", "near"],
        "also those that are restricted": ["far", "farther", "near", "stranger (restricted)"],
    });
    let examples = browser.script(examples).await;
    assert_eq!(examples.as_array().map(Vec::len), expected.as_object().map(serde_json::Map::len));
    for example in examples.as_array().expect("a list") {
        let pick = format!(
            "const pick = document.querySelector('#examples');
            pick.value = [...pick.options].find((one) => one.textContent === {example}).value;
            pick.dispatchEvent(new Event('change'))"
        );
        browser.script(&pick).await;
        browser.until("an answer", "!document.querySelector('#answer').matches('.waiting')").await;
        let matching =
            "return [...document.querySelectorAll('#answer tbody tr')].filter((row) => row.querySelector('.mark').dataset.kind === 'good')
            .map((row) => row.children[2].innerText).sort()";
        assert_eq!(browser.script(matching).await, expected[example.as_str().expect("text")], "{example}");
    }
    drop(clients);
    browser.close().await;
    server.stop().await;
}

/// A service of amybot at a websocket.
struct Service(WebSocketStream<TcpStream>);

impl Service {
    async fn identified(address: &str, name: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("Optic listens");
        let url = format!("ws://{address}/gateway/amybot");
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("a websocket");
        let mut service = Self(socket);
        let identify = json!({"s": name, "t": "gateway:opcode", "d": {"opcode": 0, "topics": []}});
        service.0.send(Message::text(identify.to_string())).await.expect("is sent");
        assert_eq!(service.hears().await["d"], json!({"opcode": 0, "accepted": true}));
        service
    }

    async fn hears(&mut self) -> Value {
        loop {
            match must("a message", self.0.next()).await.expect("it is open").expect("readable") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn a_service_is_shut_down_by_whoever_knows_the_token() {
    if is_without("browser") {
        return;
    }
    let environment = [
        ("AMQP_URL", broker()),
        ("BROKER_GROUP", unique_group()),
        ("AMYBOT_ADDRESS", "127.0.0.1:0".to_owned()),
        ("AMYBOT_SHARD_COUNT", "2".to_owned()),
        ("HTTP_ADDRESS", "127.0.0.1:0".to_owned()),
        ("HTTP_TOKEN", TOKEN.to_owned()),
    ];
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let optic = OpticProcess::spawn(&["run"], &environment);
    let amybot = address(&optic.wait_for_line("amybot is served").await);
    let mut music = Service::identified(&amybot, "music").await;
    let browser = Browser::start(Look::NIGHT).await;
    browser.goto(&page_of(&optic).await).await;
    browser.until("the service", "/music/.test(document.querySelector('#amybot-services').innerText)").await;

    // Nothing happens by one click, nor without the token, nor with a wrong one.
    let shut_down = "[aria-label='Shut down music']";
    browser.click(shut_down).await;
    assert!(browser.text("#sure-title").await.contains("Shut down music?"));
    browser.picture("shut-down").await;
    browser.click("#sure-no").await;
    browser.click(shut_down).await;
    browser.types("#sure-token", "wrong\u{e007}").await;
    browser.until("a refusal", "document.querySelector('#sure-error').textContent === 'The token is wrong.'").await;
    browser.types("#sure-token", &format!("{TOKEN}\u{e007}")).await;
    browser
        .until(
            "the outcome",
            "/1 instance of music was told to shut down/.test(document.querySelector('#amybot-outcome').textContent)",
        )
        .await;
    // The first that it hears after its IDENTIFY.
    assert_eq!(music.hears().await["d"]["opcode"], json!(1));
    // The token is known now: the next needs none.
    browser.click("[aria-label='Reboot music']").await;
    assert_eq!(browser.script("return document.querySelector('#sure-key').hidden").await, json!(true));
    browser.click("#sure-yes").await;
    browser.until("the outcome", "/told to reboot/.test(document.querySelector('#amybot-outcome').textContent)").await;
    assert_eq!(music.hears().await["d"]["opcode"], json!(2));

    // Whoever does not wait for the answer does not know; and it is no answer to what is asked then.
    browser
        .script(
            "window.real = fetch;
            window.fetch = (path, options) => options?.method !== 'POST' ? real(path, options) : new Promise((answer) => { window.late = answer; })",
        )
        .await;
    browser.click(shut_down).await;
    browser.click("#sure-yes").await;
    browser.until("the question", "window.late").await;
    browser.click("#sure-no").await;
    browser.click("[aria-label='Reboot music']").await;
    let outcome =
        "/not known whether music was told to shut down/.test(document.querySelector('#amybot-outcome').textContent)";
    browser.until("that it is not known", outcome).await;
    browser.script("late(Response.json({ error: 'a late answer' }, { status: 503 })); window.fetch = real").await;
    assert_eq!(browser.text("#sure-title").await, "Reboot music?");
    assert_eq!(browser.text("#sure-error").await, "");
    browser.click("#sure-yes").await;
    browser.until("the outcome", "/told to reboot/.test(document.querySelector('#amybot-outcome').textContent)").await;
    assert_eq!(music.hears().await["d"]["opcode"], json!(2));
    drop(music);
    browser
        .until("that it is gone", "!/music/.test(document.querySelector('#amybot-services tbody')?.innerText ?? '')")
        .await;
    browser.close().await;
}
