//! Habits of the source files: each says why it exists, stays short enough to read whole, and keeps `unsafe` and
//! downloads to the places that are listed here.

use super::{
    Finding,
    source::{Source, has_word},
    tree::Tree,
};

/// A file longer than this is two files.
const MAX_LINES: usize = 800;

/// The files that may hold `unsafe`. Each says why in its `#![expect(unsafe_code, reason = "...")]`.
const UNSAFE: &[&str] = &[
    "crates/backend-candle-metal/src/cuda/launch.rs",
    "crates/backend-candle-metal/src/cuda/ops.rs",
    "crates/backend-candle-metal/src/device/cuda.rs",
    "crates/rerank-core/src/weights/map.rs",
    "crates/rerank-kernels/src/cpu.rs",
    "crates/rerank-kernels/src/linear/bf16.rs",
    "crates/rerank-kernels/src/linear/bf16/avx512.rs",
    "crates/rerank-kernels/src/linear/int8.rs",
    "crates/rerank-kernels/src/linear/int8/avx2.rs",
    "crates/rerank-kernels/src/linear/int8/avx512.rs",
    "crates/rerank-kernels/src/linear/int8/avx_vnni.rs",
    "crates/rerank-kernels/src/linear/int8/neon_dot.rs",
    "crates/rerank-kernels/src/linear/narrow.rs",
    "crates/rerank-kernels/src/linear/tiles.rs",
    "crates/rerank-kernels/src/linear/tiles/amx.rs",
    "crates/rerank-kernels/src/linear/tiles/emulated.rs",
    "crates/rerank-kernels/src/linear/tiles/walk.rs",
];

/// (crate that fetches, folders and files that may name it).
const FETCHERS: &[(&str, &[&str])] = &[
    ("ureq", &["crates/rerank-server/src/model_store"]),
    ("hf_hub", &[]),
    ("reqwest", &["crates/rerank-bench/src/", "crates/rerank-server/tests/"]),
];

/// Macros that mark unfinished work or were left over from looking for a fault.
const LEFT_OVER: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// File names that say where things were put, not what they are.
const DRAWERS: [&str; 6] = ["util.rs", "utils.rs", "helper.rs", "helpers.rs", "common.rs", "misc.rs"];

fn finding(
    source: &Source,
    line: usize,
    rule: &'static str,
    what: String,
    remedy: impl Into<String>,
) -> Finding {
    Finding { path: source.path.clone(), line, rule, what, remedy: remedy.into() }
}

fn written(tree: &Tree) -> impl Iterator<Item = &Source> {
    tree.sources.iter().filter(|source| !source.is_generated())
}

/// The first line is `//!` and says why the file exists.
pub(crate) fn opening_line(tree: &Tree) -> Vec<Finding> {
    let opens =
        |source: &&Source| source.text.strip_prefix("//! ").is_some_and(|rest| !rest.trim_start().is_empty());
    let silent = written(tree).filter(|source| !opens(source));
    silent
        .map(|source| {
            let what = "the file does not say why it exists".to_owned();
            finding(source, 1, "opening", what, "open it with a line of `//!`")
        })
        .collect()
}

/// No file is longer than can be read whole.
pub(crate) fn size(tree: &Tree) -> Vec<Finding> {
    let lines = |source: &Source| source.text.lines().count();
    let long = written(tree).filter(|source| lines(source) > MAX_LINES);
    long.map(|source| {
        let what = format!("{} lines, of at most {MAX_LINES}", lines(source));
        finding(source, MAX_LINES + 1, "size", what, "split it by role: `foo.rs` and `foo/`")
    })
    .collect()
}

/// Nothing unfinished: no `todo!`, `dbg!` or `unimplemented!`, and no comment that puts work off.
pub(crate) fn words(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in written(tree) {
        for (line, code) in source.code_lines() {
            for name in
                LEFT_OVER.iter().filter(|name| has_word(code, name) && code.contains(&format!("{name}!")))
            {
                findings.push(finding(
                    source,
                    line,
                    "words",
                    format!("`{name}!` is left over"),
                    "finish it or take it out",
                ));
            }
        }
        for (at, comment) in source.comments.lines().enumerate() {
            for word in ["TODO", "FIXME", "XXX"].iter().filter(|word| has_word(comment, word)) {
                let what = format!("{word} in a comment");
                findings.push(finding(
                    source,
                    at + 1,
                    "words",
                    what,
                    "do it, or open an issue and leave the code alone",
                ));
            }
        }
    }
    findings
}

/// Modules are `foo.rs` beside `foo/`, called by their role.
pub(crate) fn module_files(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        let name = source.path.rsplit('/').next().unwrap_or_default();
        if name == "mod.rs" {
            let what = "mod.rs, of which an editor shows ten alike".to_owned();
            findings.push(finding(
                source,
                1,
                "modules",
                what,
                "call it by its module: `foo.rs` beside `foo/`",
            ));
        }
        if DRAWERS.contains(&name) {
            let what = format!("{name} is a drawer, not a role");
            findings.push(finding(source, 1, "modules", what, "put each thing with what it is about"));
        }
    }
    findings
}

fn unsafe_lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source.code_lines().filter(|(_, code)| has_word(code, "unsafe"))
}

/// `unsafe` stands in listed files alone, and each block or implementation says why it is sound.
pub(crate) fn unsafe_code(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in written(tree) {
        let listed = UNSAFE.contains(&source.path.as_str());
        for (line, code) in unsafe_lines(source) {
            if !listed {
                let what = "`unsafe` outside the files that are listed for it".to_owned();
                let remedy =
                    "write it safely; if that costs too much, list the file in xtask/src/tidy/sources.rs";
                findings.push(finding(source, line, "unsafe", what, remedy));
            }
            if needs_reason(code) && !has_reason(source, line) {
                let what = "no `SAFETY:` above it".to_owned();
                findings.push(finding(source, line, "unsafe", what, "say in a comment why it is sound"));
            }
        }
    }
    findings
}

/// The list of files with `unsafe` holds no other: a name that stays on it would let the next block in unseen.
pub(crate) fn unsafe_list(tree: &Tree) -> Vec<Finding> {
    let idle =
        UNSAFE.iter().filter(|path| tree.source(path).is_none_or(|source| unsafe_lines(source).count() == 0));
    idle.map(|path| Finding {
        path: "xtask/src/tidy/sources.rs".to_owned(),
        line: 1,
        rule: "unsafe",
        what: format!("{path} is listed for `unsafe` and has none"),
        remedy: "take it off the list".to_owned(),
    })
    .collect()
}

/// A declaration (`unsafe fn`, `unsafe extern`, `unsafe trait`) puts the burden on others; its docs say which.
fn needs_reason(code: &str) -> bool {
    let after = code.split("unsafe").nth(1).unwrap_or_default().trim_start();
    !["fn", "extern", "trait"].iter().any(|word| after.starts_with(word))
}

/// Looks on the line itself and in the comment above the statement that the line belongs to.
fn has_reason(source: &Source, line: usize) -> bool {
    let (code, comments): (Vec<_>, Vec<_>) =
        (source.code.lines().collect(), source.comments.lines().collect());
    let says = |at: usize| comments.get(at).is_some_and(|comment| comment.contains("SAFETY:"));
    let mut at = line - 1;
    if says(at) {
        return true;
    }
    while at > 0 {
        at -= 1;
        let above = code[at].trim();
        let is_comment = above.is_empty() && !comments[at].trim().is_empty();
        let is_attribute = above.starts_with("#[");
        let goes_on = !above.is_empty() && !above.ends_with([';', '{', '}', ',']);
        if is_comment && says(at) {
            return true;
        }
        if !(is_comment || is_attribute || goes_on) {
            return false;
        }
    }
    false
}

/// The network is asked for files in the model store and nowhere else.
pub(crate) fn downloads(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        for (name, places) in FETCHERS {
            if places.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            let uses = source.code_lines().filter(|(_, code)| has_word(code, name));
            findings.extend(uses.map(|(line, _)| {
                let what = format!("`{name}` reaches for the network");
                finding(source, line, "downloads", what, "go through crates/rerank-server/src/model_store.rs")
            }));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{super::tree::testing::with_source, *};

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_file_that_does_not_say_why_it_exists_is_found() {
        assert_eq!(opening_line(&with_source("a.rs", "//! Why.\nfn f() {}\n")), []);
        for silent in ["fn f() {}\n", "//!\nfn f() {}\n", "// Why.\n", "\n//! Late.\n", ""] {
            assert_eq!(lines(&opening_line(&with_source("a.rs", silent))), [1], "{silent:?}");
        }
        assert_eq!(opening_line(&with_source("crates/x/src/generated/a.rs", "fn f() {}\n")), []);
    }

    #[test]
    fn eight_hundred_lines_pass_and_one_more_does_not() {
        assert_eq!(size(&with_source("a.rs", &"x\n".repeat(MAX_LINES))), []);
        assert_eq!(lines(&size(&with_source("a.rs", &"x\n".repeat(MAX_LINES + 1)))), [MAX_LINES + 1]);
        assert_eq!(size(&with_source("crates/x/src/generated/a.rs", &"x\n".repeat(MAX_LINES + 1))), []);
    }

    #[test]
    fn left_over_words_are_found_in_code_and_comments_alone() {
        let text = "//! x\nlet a = \"todo!() TODO\";\n// dbg!(a) was here\ndbg!(a);\nmy_todo!();\n// TODO later\nfn todo() {}\n";
        let mut found = lines(&words(&with_source("a.rs", text)));
        found.sort_unstable();
        assert_eq!(found, [4, 6]);
    }

    #[test]
    fn modules_without_a_name_of_their_own_are_found() {
        assert_eq!(module_files(&with_source("crates/x/src/queue.rs", "")), []);
        assert_eq!(module_files(&with_source("crates/x/src/queue/mod.rs", "")).len(), 1);
        assert_eq!(module_files(&with_source("crates/x/src/utils.rs", "")).len(), 1);
    }

    #[test]
    fn unsafe_in_an_unlisted_file_is_found_even_with_a_reason() {
        let text = "//! `unsafe` in words.\n// SAFETY: none needed.\nlet a = unsafe { f() };\n";
        let found: Vec<_> = unsafe_code(&with_source("crates/x/src/a.rs", text));
        assert!(found.iter().any(|f| f.line == 3 && f.what.starts_with("`unsafe` outside")), "{found:?}");
        assert!(!found.iter().any(|f| f.what.starts_with("no `SAFETY:`")), "{found:?}");
    }

    #[test]
    fn every_block_and_implementation_in_a_listed_file_needs_its_reason() {
        let text = "\
//! x
// SAFETY: the file is not written to.
let a = unsafe { f() };
let b =
    unsafe { f() };
let c = unsafe { f() }; // SAFETY: as above.
unsafe fn g() {}
unsafe impl Send for X {}
// SAFETY: one thread owns it.
#[rustfmt::skip]
unsafe impl Sync for X {}
// SAFETY: it was checked above.
let d: Vec<u8> =
    unsafe { f() };
";
        let found = unsafe_code(&with_source(UNSAFE[0], text));
        assert_eq!(lines(&found), [5, 8], "{found:?}");
    }

    #[test]
    fn a_list_that_is_out_of_date_is_found() {
        let about_first =
            |text| unsafe_list(&with_source(UNSAFE[0], text)).iter().any(|f| f.what.starts_with(UNSAFE[0]));
        assert!(about_first("//! It was `unsafe`.\n"));
        assert!(!about_first("//! x\nlet a = unsafe { f() };\n"));
    }

    #[test]
    fn fetching_outside_the_model_store_is_found() {
        let text = "//! x\nlet body = ureq::get(url).call()?;\n";
        assert_eq!(downloads(&with_source("crates/rerank-server/src/model_store.rs", text)), []);
        assert_eq!(downloads(&with_source("crates/rerank-server/src/model_store/hub.rs", text)), []);
        assert_eq!(lines(&downloads(&with_source("crates/rerank-server/src/http.rs", text))), [2]);
        assert_eq!(
            lines(&downloads(&with_source("xtask/src/check.rs", "//! x\nuse reqwest::Client;\n"))),
            [2]
        );
    }
}
