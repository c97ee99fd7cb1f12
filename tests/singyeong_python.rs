//! spec/singyeong.md, held by 신경's own clients for Python: singyeong.py and shinkei, unchanged.
//!
//! `OPTIC_TEST_SINGYEONG_PYTHON` names a Python 3.7 or 3.8 that has them. They run on no later one, so a machine without such a
//! Python skips these tests, and says so.

mod common;

use common::{Program, SingyeongBed, lasting_address};
use serde_json::json;
use tokio::process::Command;

const PASSWORD: &str = "hunter2";

/// Runs a program that says when the server is to be restarted.
async fn over_a_restart(program: &str) {
    let python = match std::env::var("OPTIC_TEST_SINGYEONG_PYTHON") {
        Ok(python) if !python.is_empty() => python,
        _ => {
            eprintln!(
                "\n*** SKIPPED: {program}. OPTIC_TEST_SINGYEONG_PYTHON names no Python 3.7 or 3.8 with tests/python/singyeong.txt: \
                 install one (pyenv install 3.8), then scripts/setup singyeong makes target/venv-singyeong\n"
            );
            return;
        }
    };
    let bed = SingyeongBed::new().with("SINGYEONG_AUTH", PASSWORD);
    let address = lasting_address();
    let server = bed.start_at(&address).await;
    let port = address.rsplit(':').next().expect("a port");
    let mut command = Command::new(python);
    command.arg(format!("{}/tests/python/{program}", env!("CARGO_MANIFEST_DIR"))).args([port, PASSWORD]);
    let mut program = Program::start(&mut command);
    program.says("restart").await;
    server.stop().await;
    let server = bed.start_at(&address).await;
    assert_eq!(program.summary().await, json!({ "members": 5 }));
    server.stop().await;
}

#[tokio::test]
async fn singyeong_py_finds_others_and_comes_back() {
    over_a_restart("singyeong_py.py").await;
}

#[tokio::test]
async fn shinkei_finds_others_and_comes_back() {
    over_a_restart("shinkei_client.py").await;
}
