//! spec/configuration.md, "Files": a bot that ran on sinGateway runs on Optic with its file, and its clients notice nothing.

mod common;

use common::{Bed, OpticProcess, SingyeongBed, SingyeongClient, broker, must};
use serde_json::json;

#[tokio::test]
async fn a_file_of_singateways_forwards_to_the_server_that_it_names() {
    let server = SingyeongBed::new().start().await;
    let metadata = json!({
        "events": { "type": "list", "value": ["READY", "MESSAGE_CREATE"] },
        "cluster": { "type": "integer", "value": 0 },
    });
    let identify = json!({ "application_id": "worker", "client_id": "one", "metadata": metadata });
    let mut worker = SingyeongClient::identify_with(&server.address, identify).await.expect("taken");

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.yml");
    let text = format!(
        r#"
token: "hunter2.test.token"
redisDSN: "redis://localhost"
singyeongDSN: "singyeong://gateway@{}"
loggingLevel: "INFO"
intents: 513
clustering:
  enabled: true
  clusterCount: 1
  clusterShards: 1
forwarding:
  - type: "send"
    target:
      application: "worker"
      ops:
        - path: "/events"
          op: "$contains"
          to:
            value: "{{{{EVENT}}}}"
        - path: "/cluster"
          op: "$eq"
          to:
            value: "{{{{CLUSTER}}}}"
    events:
      - "READY"
      - "MESSAGE_CREATE"
"#,
        server.address
    );
    std::fs::write(&path, text).expect("written");
    // The bed's own token, intents and events would go before the file's.
    let bed = ["DISCORD_TOKEN", "DISCORD_INTENTS", "DISCORD_EVENTS"]
        .into_iter()
        .fold(Bed::new(&broker(), Bed::settings()), |bed, name| bed.with(name, ""));
    let environment: Vec<_> = bed.environment.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let arguments = ["--config", path.to_str().expect("UTF-8"), "--cluster", "0"];
    let mut optic = OpticProcess::spawn(&arguments, &environment);
    optic.wait_for_line("not needed, and not read: RabbitMQ keeps the sessions").await;
    must("the shard", bed.gateway.connected(1)).await;

    let ready = worker.dispatched("SEND").await;
    assert_eq!((&ready["payload"]["op"], &ready["payload"]["t"]), (&json!(0), &json!("READY")));
    bed.gateway.event("GUILD_CREATE", br#"{"id":"1"}"#);
    bed.gateway.event("MESSAGE_CREATE", br#"{"content":"hello"}"#);
    let message = worker.dispatched("SEND").await;
    assert_eq!(message["payload"]["t"], "MESSAGE_CREATE");
    assert_eq!(message["payload"]["d"], json!({ "content": "hello" }));
    assert!(!optic.stderr().join("\n").contains("hunter2"), "{:?}", optic.stderr());

    optic.terminate().await;
    assert_eq!(optic.wait().await.code(), Some(0), "{}", optic.stderr().join("\n"));
    server.stop().await;
}
