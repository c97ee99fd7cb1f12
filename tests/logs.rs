//! The log of the real program: one JSON object a line, state changes with shard, session and reason, and never a secret, however
//! much it is asked to tell.

mod common;

use common::{Bed, OpticProcess, SingyeongBed, SingyeongClient, Worker, broker, must};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Also what is silent unless it is named.
const EVERYTHING: &str = "trace,lapin=trace,amq_protocol=trace,hyper=trace,tungstenite=trace,rustls=trace,h2=trace";

/// What must never be told.
const TOKEN: &str = "MTE4MDAwMDAwMDAwMDAwMDAwMQ.GsecRt.d1scord-t0ken-of-a-test";
const HTTP_TOKEN: &str = "http-t0ken-of-a-test-that-is-long";
const AMQP_PASSWORD: &str = "amqp-passw0rd-of-a-test";
const SINGYEONG_PASSWORD: &str = "singyeong-passw0rd-of-a-test";

/// Stops it; all that it said.
async fn said(mut optic: OpticProcess) -> Vec<String> {
    optic.terminate().await;
    optic.wait().await;
    [optic.stdout(), optic.stderr()].concat()
}

fn assert_none_told(lines: &[String]) {
    for secret in [TOKEN, HTTP_TOKEN, AMQP_PASSWORD, SINGYEONG_PASSWORD] {
        // As text, and as some write bytes.
        let bytes: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for form in [secret.to_owned(), bytes.join(", "), hex] {
            let told = lines.iter().find(|line| line.contains(&form));
            assert!(told.is_none(), "{secret} is in: {}", told.map_or("", |line| line));
        }
    }
}

/// `GET path` with the token of the admin interface.
async fn ask(optic: &OpticProcess, path: &str, token: &str) {
    let line = optic.wait_for_line("health is served").await;
    let address =
        line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("the line has it");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: optic\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    must("an answer", stream.read_to_string(&mut String::new())).await.expect("text");
}

/// Everything that has to do with a secret happens once, and all that can be told of it is told.
#[tokio::test]
async fn no_secret_is_told_however_much_is() {
    let bed = Bed::new(&broker(), Bed::settings())
        .with("DISCORD_TOKEN", TOKEN)
        .with("HTTP_TOKEN", HTTP_TOKEN)
        .with("SINGYEONG_AUTH", SINGYEONG_PASSWORD)
        .with("LOG_LEVEL", EVERYTHING);
    let consumer = bed.consumer(&broker()).await;
    let singyeong = SingyeongBed::of(&bed).start().await;
    let optic = singyeong.optic;
    consumer.wait_for(1).await;
    // Discord: an identify was sent; now a resume, and after that another identify.
    bed.gateway.control("close", "code=4000");
    optic.wait_for_line("session resumed").await;
    bed.gateway.control("close", "code=4009");
    optic.wait_for_lines("session started", 2).await;
    // HTTP: right and wrong.
    ask(&optic, "/api/amybot/services", HTTP_TOKEN).await;
    // 신경: right and wrong.
    let identify = |auth: &str| json!({"application_id": "app", "client_id": "1", "auth": auth});
    let client = SingyeongClient::identify_with(&singyeong.address, identify(SINGYEONG_PASSWORD)).await;
    assert!(client.is_ok());
    // Workers: what cannot be sent is told with its reason, and not with what is in it.
    let worker = Worker::connect(&broker(), &bed.group).await;
    worker.publish("0", &json!({"op": 2, "d": {"token": TOKEN}}).to_string()).await;
    optic.wait_for_line("a command is set aside").await;
    let lines = said(optic).await;
    assert!(lines.iter().any(|line| line.contains("TRACE")), "so much was told");
    assert_none_told(&lines);
}

#[tokio::test]
async fn a_password_of_rabbitmq_is_not_told_either() {
    let mut url = url::Url::parse(&broker()).expect("a URL");
    url.set_password(Some(AMQP_PASSWORD)).expect("it has a host");
    let bed = Bed::new(url.as_str(), Bed::settings()).with("LOG_LEVEL", EVERYTHING);
    let optic = bed.optic();
    // The connection that publishes, and one of the others.
    optic.wait_for_lines("RabbitMQ refuses the user or password", 2).await;
    assert_none_told(&said(optic).await);
}

#[tokio::test]
async fn a_log_for_machines_has_an_object_a_line_and_a_state_change_its_shard_session_and_reason() {
    let bed = Bed::new(&broker(), Bed::settings()).with("LOG_FORMAT", "json").with("LOG_LEVEL", "debug,optic=trace");
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    consumer.wait_for(1).await;
    bed.gateway.control("close", "code=4000");
    optic.wait_for_line("session resumed").await;
    let lines = said(optic).await;
    let objects: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    assert!(
        objects.iter().all(|object| {
            ["timestamp", "level", "message", "target"].iter().all(|field| object[field].is_string())
        })
    );
    let line = |message: &str| {
        let found = objects.iter().find(|object| object["message"] == message);
        found.unwrap_or_else(|| panic!("{message}: {lines:#?}"))
    };
    let session = &line("session started")["session"];
    assert!(session.is_string());
    for message in ["session started", "session resumed", "disconnected"] {
        let line = line(message);
        assert_eq!((&line["session"], &line["span"]["id"], &line["level"]), (session, &json!("0"), &json!("INFO")));
    }
    let reason = line("disconnected")["reason"].as_str().expect("words");
    assert!(reason.starts_with("closed by Discord: 4000"), "{reason}");
    // Nor is there a line an event, at a level that is on in production.
    assert!(objects.iter().filter(|object| object["level"] == "INFO").count() < 40);
}
