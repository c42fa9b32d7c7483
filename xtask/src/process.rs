//! How the commands start other programs: from the workspace's root, with what a person would type printed first.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, IsTerminal as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::setup::torch;

/// What cargo sets for the program it runs. Inherited by a nested cargo, these make build scripts that watch them
/// (ring's does) run again, so that one command's build would undo another's.
const SET_BY_CARGO_RUN: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];

/// The folder with the workspace's `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace's root")
}

/// `program`, to be run in the workspace's root as a person would run it.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        if SET_BY_CARGO_RUN.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    if torch::is_configured() {
        command.env_remove("LIBTORCH");
    }
    command
}

/// `cargo` of the toolchain in use, with `arguments` split at blanks.
pub(crate) fn cargo(arguments: &str) -> Command {
    let mut command = command("cargo");
    command.args(arguments.split_whitespace());
    command
}

/// Prints the command, runs it with this terminal's output, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = announce(command);
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// As [`run`], and returns the lines of standard error that `wanted` picks, for the summary at the end.
pub(crate) fn run_and_pick(command: &mut Command, wanted: fn(&str) -> bool) -> Result<Vec<String>> {
    let shown = announce(command);
    let mut child =
        command.stderr(Stdio::piped()).spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let stderr = BufReader::new(child.stderr.take().expect("standard error was piped"));
    let mut picked = Vec::new();
    for line in stderr.split(b'\n') {
        let line = line?;
        std::io::stderr().write_all(&line)?;
        std::io::stderr().write_all(b"\n")?;
        let line = without_colours(&String::from_utf8_lossy(&line));
        if wanted(&line) {
            picked.push(line.trim().to_owned());
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{shown}` ended with {status}; {}", picked.join("; "));
    }
    Ok(picked)
}

/// Runs the command quietly and returns its standard output; its standard error is in the error if it fails.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command.output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` ended with {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed something that is not UTF-8"))
}

/// Whether a nested program should be told to colour its piped output.
pub(crate) fn wants_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn announce(command: &Command) -> String {
    let shown = shown(command);
    eprintln!("$ {shown}");
    shown
}

/// The command as a shell would take it: variables it adds, then words, quoted where they need it.
pub(crate) fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        value.map(|value| format!("{}={}", name.to_string_lossy(), quoted(&value.to_string_lossy())))
    });
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|w| quoted(&w.to_string_lossy()));
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The line without its terminal colour sequences (`ESC [ ... m`).
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..start]);
        let sequence = &rest[start..];
        rest = sequence.find('m').map_or("", |end| &sequence[end + 1..]);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_can_be_pasted_into_a_shell() {
        let mut command = Command::new("cargo");
        command.env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--no-deps", "it's"]);
        assert_eq!(shown(&command), r"RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'it'\''s'");
    }

    #[test]
    fn colours_are_taken_out_of_picked_lines() {
        assert_eq!(without_colours("\u{1b}[32;1m     Summary\u{1b}[0m [ 1s]"), "     Summary [ 1s]");
    }

    #[test]
    fn picked_lines_come_back_and_a_failure_names_its_command() {
        let mut good = Command::new("sh");
        good.args(["-c", "echo noise >&2; echo '  Summary: fine' >&2"]);
        assert_eq!(run_and_pick(&mut good, |l| l.contains("Summary")).unwrap(), ["Summary: fine"]);
        let mut bad = Command::new("sh");
        bad.args(["-c", "exit 3"]);
        assert_eq!(run(&mut bad).unwrap_err().to_string(), "`sh -c 'exit 3'` ended with exit status: 3");
    }
}
