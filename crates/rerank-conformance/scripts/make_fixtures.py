#!/usr/bin/env python3
"""Makes everything under crates/rerank-conformance/fixtures/ from PyTorch transformers.

    pip install torch==2.13.0 transformers==5.23.0 tokenizers==0.23.3 safetensors==0.8.0 numpy==2.4.6
    python crates/rerank-conformance/scripts/make_fixtures.py

Two runs on one machine write the same bytes; on another machine, logits may differ in their last digits. The two
trained tokenizers are inputs once they exist: training breaks ties by the order of a randomly seeded hash map, so
`--train` makes others, and every expectation with them. What the files hold is written down in fixtures/README.md,
which is not generated.
"""

import argparse
import hashlib
import json
import struct
import tempfile
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

import nasty
import synth

CRATE = Path(__file__).resolve().parent.parent
FIXTURES = CRATE / "fixtures"
TINY = CRATE.parent / "rerank-model-tiny" / "model"
WORKLOAD = CRATE.parent.parent / "benchmarks" / "data" / "workload.jsonl"

torch.manual_seed(0)
torch.set_num_threads(2)
transformers.utils.logging.disable_progress_bar()

REFERENCE = {
    "torch": torch.__version__.split("+")[0],
    "transformers": transformers.__version__,
    "tokenizers": tokenizers.__version__,
    "dtype": "f32",
    "device": "cpu",
    "attention": "eager",
}


def workload() -> list[dict]:
    return [json.loads(line) for line in WORKLOAD.read_text(encoding="utf-8").splitlines()]


def write(path: str, value: dict) -> None:
    """One line for each element of the lists at the top, so that a diff shows which rows changed."""
    lines = []
    for key, item in value.items():
        if isinstance(item, list):
            rows = ",\n".join(json.dumps(row, ensure_ascii=True, separators=(",", ":")) for row in item)
            lines.append(f"{json.dumps(key)}: [\n{rows}\n]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(item, ensure_ascii=True)}")
    target = FIXTURES / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="ascii")
    print(f"{target.relative_to(CRATE)}: {target.stat().st_size:,} bytes")


# --- tokenizers ------------------------------------------------------------------------------------------------------


def training_text() -> list[str]:
    """The workload, with the nasty texts often enough that their characters enter a vocabulary."""
    texts = []
    for line in workload():
        texts += [line["query"], *line["documents"]]
    return texts + [text for text in nasty.TEXTS.values() if len(text) < 2000] * 8


def unigram(vocab_size: int) -> Tokenizer:
    """As XLM-RoBERTa's: NFKC, metaspaces, a Unigram model, `<s> q </s></s> d </s>`."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size - 1,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer


def byte_level_bpe(vocab_size: int) -> Tokenizer:
    """As RoBERTa's: byte-level BPE, `<s> q </s></s> d </s>`."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def save(tokenizer: Tokenizer, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")
    print(f"{path.relative_to(CRATE)}: {path.stat().st_size:,} bytes, {tokenizer.get_vocab_size()} tokens")


def fast(path: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_file=str(path))


def tokenise(tokenizer: PreTrainedTokenizerFast, query: str, document: str, **options) -> tuple[list[int], list[int]]:
    """Ids and type ids of one pair, through the batched call.

    Called with two plain strings, transformers drops an empty document and encodes the query alone; with lists, as
    cross-encoders call it, the pair stays a pair.
    """
    out = tokenizer([query], [document], return_token_type_ids=True, **options)
    return out["input_ids"][0], out["token_type_ids"][0]


def encode(tokenizer: PreTrainedTokenizerFast, query: str, document: str, case: dict) -> dict:
    tokenizer.truncation_side = case["direction"]
    try:
        ids, types = tokenise(
            tokenizer, query, document, truncation=case["strategy"], max_length=case["max_length"]
        )
    except Exception as error:  # The Rust side raises a plain Exception for a truncation that cannot be done.
        if "too short" not in str(error):
            raise
        return {"error": "query too long"}
    assert len(ids) <= case["max_length"], case
    first = types.index(1) if 1 in types else len(types)
    assert types == [0] * first + [1] * (len(types) - first), types
    # Where types turn from 0 to 1; equal to the length where they never do.
    out = {"types_turn_at": first}
    if len(ids) <= 32:
        return out | {"ids": ids}
    digest = hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()
    return out | {"length": len(ids), "head": ids[:8], "tail": ids[-8:], "sha256": digest}


def tokenizer_cases(files: dict[str, Path]) -> None:
    settings = [
        (512, "longest_first", "right"),
        (512, "longest_first", "left"),
        (17, "longest_first", "right"),
        (17, "longest_first", "left"),
        (16, "longest_first", "right"),
        (16, "longest_first", "left"),
        (8, "longest_first", "right"),
        (512, "only_second", "right"),
        (32, "only_second", "right"),
        (32, "only_second", "left"),
        (16, "only_second", "right"),
    ]
    cases = []
    for name, path in files.items():
        tokenizer = fast(path)
        for query, document in nasty.PAIRS:
            seen = set()
            both_long = min(len(nasty.TEXTS[query]), len(nasty.TEXTS[document])) > 1000
            for max_length, strategy, direction in settings:
                # tokenizers keeps what it cut off, as every combination of the query's and the document's pieces:
                # two 5,000-word texts cut to 8 tokens make six million encodings, more than memory holds.
                if both_long and max_length < 512:
                    continue
                case = {"max_length": max_length, "strategy": strategy, "direction": direction}
                expected = encode(tokenizer, nasty.TEXTS[query], nasty.TEXTS[document], case)
                # Settings that all leave a short pair alone say the same: keep one of each kind.
                key = (strategy, json.dumps(expected))
                if key in seen:
                    continue
                seen.add(key)
                cases.append({"tokenizer": name, "query": query, "document": document, **case, "expected": expected})
    texts = [{"name": name, "text": text} for name, text in nasty.TEXTS.items()]
    write("tokenizers/cases.json", {"reference": REFERENCE, "texts": texts, "cases": cases})


# --- logits ----------------------------------------------------------------------------------------------------------


def load(config: Path | str, weights: Path | bytes):
    """A model as transformers loads it from a folder."""
    with tempfile.TemporaryDirectory() as folder:
        text = config.read_text() if isinstance(config, Path) else config
        data = weights.read_bytes() if isinstance(weights, Path) else weights
        Path(folder, "config.json").write_text(text)
        Path(folder, "model.safetensors").write_bytes(data)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
    return model.eval(), hashlib.sha256(data).hexdigest()


def load_synthetic(name: str):
    config, weights = synth.checkpoint(synth.preset(name))
    synth.check(name, weights)
    return load(config, weights)


@torch.inference_mode()
def logits(model, rows: list[tuple[list[int], list[int]]]) -> list[float]:
    """Each row alone, so that no padding can enter; then padded batches, which must agree."""
    alone = [
        model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types])).logits.item() for ids, types in rows
    ]
    for start in range(0, len(rows), 8):
        part = rows[start : start + 8]
        longest = max(len(ids) for ids, _ in part)
        fill = lambda values, pad: torch.tensor([v + [pad] * (longest - len(v)) for v in values])
        together = model(
            input_ids=fill([ids for ids, _ in part], model.config.pad_token_id),
            token_type_ids=fill([types for _, types in part], 0),
            attention_mask=fill([[1] * len(ids) for ids, _ in part], 0),
        ).logits[:, 0]
        worst = (together - torch.tensor(alone[start : start + 8])).abs().max().item()
        assert worst < 2e-5, f"padding moves a logit by {worst}"
    return alone


def write_golden(name: str, model, sha256: str, rows: list[tuple[list[int], list[int]]]) -> None:
    out = []
    for (ids, types), logit in zip(rows, logits(model, rows), strict=True):
        turn = types.index(1) if 1 in types else len(types)
        out.append({"ids": ids, "types_turn_at": turn, "logit": logit})
    spread = np.std([row["logit"] for row in out])
    assert spread > 1.0, f"{name}: logits spread by {spread} only"
    write(f"golden/{name}.json", {"model": name, "weights_sha256": sha256, "reference": REFERENCE, "rows": out})


LENGTHS = [3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 24, 31, 32, 33, 47, 64, 65, 90, 100, 127, 128, 129, 160, 200, 255, 256, 511, 512]


def synthetic_rows(spec: dict) -> list[tuple[list[int], list[int]]]:
    """Seeded ids of each length, framed as a pair: a query of a quarter, one separator (two for RoBERTa)."""
    bert = spec["architecture"] == "bert"
    first, separator = (101, 102) if bert else (0, 2)
    rows = []
    for number, length in enumerate(LENGTHS):
        stream = synth.Stream(spec["seed"], f"golden row {number}")
        ids = [int(id) + 4 for id in stream.below(0, length, spec["vocab_size"] - 4)]
        turn = max(2, length // 4)
        ids[0], ids[turn - 1], ids[-1] = first, separator, separator
        if not bert and length > 8:
            ids[turn] = separator
        rows.append((ids, [0] * turn + [1] * (length - turn) if bert else [0] * length))
    if not bert:
        # A literal "<pad>" in a text becomes the padding id: it takes part in attention, but holds no position.
        ids, types = rows[LENGTHS.index(24)]
        rows.append((ids[:10] + [1] + ids[10:], types + [0]))
    return rows


def golden_synthetic(name: str) -> None:
    write_golden(name, *load_synthetic(name), synthetic_rows(synth.preset(name)))


def golden_tiny() -> None:
    tokenizer = fast(TINY / "tokenizer.json")
    lines = workload()
    pairs = [("", ""), (lines[0]["query"], ""), ("", "Berlin"), ("capital of Germany", "Berlin")]
    # One relevant and one other document of every fifth query: logits on both sides of 0.
    for line in lines[::10]:
        relevant = line["relevant"] if isinstance(line["relevant"], int) else line["relevant"][0]
        pairs.append((line["query"], line["documents"][relevant]))
        pairs.append((line["query"], line["documents"][relevant - 1]))
    joined = " ".join(lines[1]["documents"])
    pairs += [(lines[1]["query"], joined), (joined, lines[1]["query"]), (lines[2]["query"], joined[:1200])]
    rows = [tokenise(tokenizer, *pair, truncation="longest_first", max_length=512) for pair in pairs]
    assert max(len(ids) for ids, _ in rows) == 512 and min(len(ids) for ids, _ in rows) == 3
    model, sha256 = load(TINY / "config.json", TINY / "model.safetensors")
    write_golden("rerank-tiny", model, sha256, rows)


# --- parity of a running server --------------------------------------------------------------------------------------


def parity() -> None:
    tokenizer = fast(TINY / "tokenizer.json")
    lines = workload()
    requests = [{"query": line["query"], "documents": line["documents"][:8]} for line in lines[5::32]]
    requests.append({"query": nasty.TEXTS["plain"], "documents": [nasty.TEXTS[name] for name in nasty.PARITY]})
    models = []
    for name in ["rerank-tiny", "minilm-l6"]:
        if name == "rerank-tiny":
            model, sha256 = load(TINY / "config.json", TINY / "model.safetensors")
        else:
            model, sha256 = load_synthetic(name)
        out = []
        for request in requests:
            rows = [
                tokenise(tokenizer, request["query"], document, truncation="longest_first", max_length=512)
                for document in request["documents"]
            ]
            out.append({"logits": logits(model, rows), "tokens": sum(len(ids) for ids, _ in rows)})
        models.append({"model": name, "weights_sha256": sha256, "answers": out})
    write(
        "parity.json",
        {"schema": 1, "reference": REFERENCE, "max_length": 512, "requests": requests, "models": models},
    )


def main(train: bool) -> None:
    xlm, roberta = FIXTURES / "tokenizers/xlm-roberta.json", FIXTURES / "tokenizers/roberta.json"
    if train:
        save(unigram(synth.preset("xlm-roberta-small")["vocab_size"]), xlm)
        save(byte_level_bpe(synth.preset("roberta-small")["vocab_size"]), roberta)
    for path, name in [(xlm, "xlm-roberta-small"), (roberta, "roberta-small")]:
        size = fast(path).backend_tokenizer.get_vocab_size()
        assert size == synth.preset(name)["vocab_size"], f"{path.name} has {size} tokens, {name} another number"
    tokenizer_cases({"rerank-tiny": TINY / "tokenizer.json", "xlm-roberta": xlm, "roberta": roberta})
    golden_tiny()
    for name in ["minilm-l2", "roberta-small", "xlm-roberta-small"]:
        golden_synthetic(name)
    parity()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Makes the golden fixtures.")
    parser.add_argument("--train", action="store_true", help="train the two small tokenizers anew")
    main(parser.parse_args().train)
