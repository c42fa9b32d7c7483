//! The command line: what it prints, and what it refuses with a lesson.

use std::io::Write;
use std::process::{Output, Stdio};

use crate::binary::command;

/// A backend that any build which runs these tests has, and that loads at once where it can.
const BACKEND: &str = if cfg!(feature = "mock") { "mock" } else { "auto" };

fn run(arguments: &[&str]) -> Output {
    command(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Standard error of a run that must fail, without the log's lines.
fn refusal(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines().filter(|line| !line.contains(" INFO ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn help_is_complete() {
    let output = run(&["--help"]);
    // Which defaults there are depends on the build; the text is kept for the usual one.
    if cfg!(feature = "embedded-model") {
        let text = String::from_utf8(output.stdout).unwrap();
        insta::assert_snapshot!("help", text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"));
    }
    let output = run(&["rank", "--help"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("ls /usr/share/doc"));
}

#[test]
fn what_cannot_be_served_is_refused_with_a_remedy() {
    insta::assert_snapshot!(refusal(&["--http", "off", "--grpc", "off"]), @"error: both --http and --grpc are off: nothing would be served");
    insta::assert_snapshot!(refusal(&["--http", "8080"]), @r"
    error: invalid value '8080' for '--http <ADDRESS>': `8080` is neither HOST:PORT nor `off`

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refusal(&["--dtype", "float16"]), @r"
    error: invalid value 'float16' for '--dtype <DTYPE>': unknown dtype `float16`: expected `f32`, `f16`, `bf16` or `int8`

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refusal(&["--workers", "0"]), @r"
    error: invalid value '0' for '--workers <N>': a whole number of at least 1 is expected

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refusal(&["--backend", BACKEND, "--model", "./no/such/folder"]), @"error: model folder `./no/such/folder` does not exist");
    insta::assert_snapshot!(refusal(&["--model", "a/b/c"]), @r"
    error: invalid value 'a/b/c' for '--model <MODEL>': `a/b/c` is neither a folder, nor a hub id (ORG/NAME[@REVISION]), nor `builtin`

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refusal(&["--log", "info,=x"]), @"error: --log `info,=x`: not a level or a list of target=level: invalid filter directive");
}

#[test]
fn an_address_in_use_says_which_flag_to_change() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = refusal(&["--model", "builtin", "--backend", BACKEND, "--http", &address, "--no-warm-up"]);
    assert!(error.contains("--http names another address"), "{error}");
}

#[test]
fn backends_are_listed() {
    let output = run(&["backends"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for name in ["candle", "mock"] {
        assert!(table.contains(name), "{table}");
    }
}

#[test]
#[cfg_attr(not(feature = "mock"), ignore = "needs a build with --features mock")]
fn lines_are_ranked_without_a_server() {
    let documents = b"Rome has two airports.\n\n  people in berlin  \nBerlin is green.\n";
    let rank = |extra: &[&str]| {
        let fixed = ["rank", "--backend", "mock", "--query", "people in berlin", "--log", "warn"];
        let mut child =
            command(&[&fixed, extra].concat()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(documents).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let table = rank(&["-"]);
    let place = |text: &str| table.find(text).unwrap_or_else(|| panic!("no `{text}` in\n{table}"));
    assert!(place("people in berlin") < place("Berlin is green") && place("Berlin is green") < place("Rome"));

    let lines = rank(&["--json", "--top-n", "1"]);
    let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
    assert_eq!((line["rank"].as_u64(), line["line"].as_u64()), (Some(1), Some(3)));
    assert_eq!(line["document"], "people in berlin");
    assert!(line["score"].is_f64() && line["logit"].is_f64());
}

#[test]
fn a_file_without_lines_is_refused() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let path = empty.path().to_str().unwrap();
    let error = refusal(&["rank", "--backend", BACKEND, "--model", "builtin", "--query", "q", path]);
    assert!(error.contains("holds no lines to rank"), "{error}");
    let error = refusal(&["rank", "--model", "builtin", "--query", " ", path]);
    assert!(error.contains("the query is empty"), "{error}");
}
