//! The text of a new backend: the template's names replaced, and lines put where they belong in files that people
//! also edit, whose comments and order stay as they are.

#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// In alphabetical order within the neighbour's block: up to a blank line, a comment or a bracket.
    Sorted,
    /// Directly before the neighbour.
    Before,
}

/// The template's text with its name replaced, in every spelling.
pub(crate) fn renamed(text: &str, name: &str) -> String {
    let (first, rest) = name.split_at(1);
    let capitalised = first.to_uppercase() + rest;
    text.replace("mock", name).replace("Mock", &capitalised).replace("MOCK", &name.to_uppercase())
}

/// `text` with `new` put beside the first line that contains `neighbour`; `None` if there is no such line.
pub(crate) fn insert(text: &str, neighbour: &str, new: &str, place: Place) -> Option<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.contains(neighbour))?;
    let at = match place {
        Place::Before => at,
        Place::Sorted => {
            let in_block = |line: &&&str| {
                let line = line.trim();
                !(line.is_empty() || line.starts_with(['#', '[', ']']) || line.ends_with('['))
            };
            let begin = at - lines[..at].iter().rev().take_while(in_block).count();
            let block = lines[begin..].iter().take_while(in_block);
            begin + block.take_while(|line| key(line) < key(new)).count()
        }
    };
    lines.insert(at, new);
    let ending = if text.ends_with('\n') { "\n" } else { "" };
    Some(lines.join("\n") + ending)
}

/// What a line is sorted by: `backend-mock` in `backend-mock = { ... }` and in `"crates/backend-mock",`.
fn key(line: &str) -> &str {
    line.trim().trim_matches(['"', ',']).split(['.', ' ', '=']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_name_is_replaced() {
        let text = "backend-mock backend_mock::FACTORY MockBackend RERANK_MOCK_DELAY \"mock\"";
        let expected = "backend-onnx backend_onnx::FACTORY OnnxBackend RERANK_ONNX_DELAY \"onnx\"";
        assert_eq!(renamed(text, "onnx"), expected);
    }

    #[test]
    fn a_line_finds_its_place_in_the_order_of_its_block() {
        let text = "members = [\n    \"crates/backend-candle-metal\",\n    \"crates/backend-mock\",\n    \"xtask\",\n]\n";
        let with = |name: &str| {
            let line = format!("    \"crates/backend-{name}\",");
            insert(text, "\"crates/backend-mock\"", &line, Place::Sorted).unwrap()
        };
        assert!(
            with("example")
                .contains("candle-metal\",\n    \"crates/backend-example\",\n    \"crates/backend-mock")
        );
        assert!(
            with("torch").contains("backend-mock\",\n    \"crates/backend-torch\",\n    \"xtask\",\n]\n")
        );
        assert!(
            with("a")
                .starts_with("members = [\n    \"crates/backend-a\",\n    \"crates/backend-candle-metal")
        );
    }

    #[test]
    fn blocks_end_at_blank_lines_and_comments() {
        let text = "[deps]\n# Ours.\nbackend-mock = { path = \"m\" }\n\n# Others.\nanyhow = \"1\"\n";
        let new = "backend-torch = { path = \"t\" }";
        let expected = "[deps]\n# Ours.\nbackend-mock = { path = \"m\" }\nbackend-torch = { path = \"t\" }\n\n# Others.\nanyhow = \"1\"\n";
        assert_eq!(insert(text, "backend-mock = {", new, Place::Sorted).unwrap(), expected);
    }

    #[test]
    fn a_missing_neighbour_is_noticed() {
        assert_eq!(insert("a\nb\n", "c", "d", Place::Before), None);
        assert_eq!(insert("a\nb\n", "b", "d", Place::Before).unwrap(), "a\nd\nb\n");
    }
}
