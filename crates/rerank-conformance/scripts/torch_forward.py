#!/usr/bin/env python3
"""PyTorch's forward pass under the protocol of `rerank_conformance::forward`: the yardstick of the backends.

    pip install torch==2.13.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6
    python crates/rerank-conformance/scripts/torch_forward.py --threads 2 --shapes 32x128,mix32

Eager mode, that is uncompiled, as most programs run it: rows padded to the longest, attention mask, inference mode. With
`--sorted-by N` rows are sorted by length and go in batches of N, which pads least: PyTorch at its best.
Rows are those of `src/forward/rows.rs`, so logits can be compared with a backend's. The protocol is written down in
`src/forward.rs`.
"""

import argparse
import hashlib
import json
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForSequenceClassification

import synth

SEED = 1
MOST_ITERATIONS = 10_000
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def lengths(shape: str, longest: int) -> list[int]:
    if shape != "mix32":
        rows, length = (int(part) for part in shape.split("x"))
        return [length] * rows
    uniform = (synth.Stream(SEED, "mix32 lengths").uniform(32 * 12).astype(np.float64) + 1.0) / 2.0
    z = uniform.reshape(32, 12).sum(axis=1) - 6.0
    return [min(max(math.floor(math.exp(4.33 + 0.6 * value) + 0.5), 8), longest) for value in z]


def row(shape: str, index: int, length: int, config) -> tuple[list[int], list[int]]:
    stream = synth.Stream(SEED, f"{shape} row {index}")
    ids = [4 + int(id) for id in stream.below(0, length, max(config.vocab_size - 4, 1))]
    turn = min(max(length // 4, 2), length)
    bert = config.model_type == "bert"
    first, separator = (101, 102) if bert else (0, 2)
    ids[0] = first
    ids[turn - 1] = separator
    ids[length - 1] = separator
    if not bert and length > 8:
        ids[turn] = separator
    return ids, [int(bert and index >= turn) for index in range(length)]


class Subject:
    def __init__(self, args):
        self.device = torch.device(args.device)
        self.sorted_by = args.sorted_by
        self.load(args)
        config = self.model.config
        self.max_length = config.max_position_embeddings
        if config.model_type != "bert":
            self.max_length -= config.pad_token_id + 1
        cuda = self.device.type == "cuda"
        self.info = {
            "backend": "torch-eager",
            "device": "cuda:%d" % (self.device.index or 0) if cuda else self.device.type,
            "device_name": torch.cuda.get_device_name(self.device) if cuda else cpu_name(),
            "dtype": args.dtype,
            "threads": torch.get_num_threads(),
            "layout": "padded",
            "shapes": "dynamic",
            "max_length": self.max_length,
            "max_rows": None,
            "details": {
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "attention": self.model.config._attn_implementation,
            },
        }

    def load(self, args) -> None:
        with tempfile.TemporaryDirectory() as folder:
            if args.model is None:
                folder, self.name = Path(folder), "synthetic/minilm-l6"
                config, weights = synth.checkpoint(synth.preset("minilm-l6"))
                (folder / "config.json").write_text(config)
                (folder / "model.safetensors").write_bytes(weights)
            else:
                folder, self.name = args.model, str(args.model)
                weights = (folder / "model.safetensors").read_bytes()
            self.sha256 = hashlib.sha256(weights).hexdigest()
            options = {} if args.attention is None else {"attn_implementation": args.attention}
            self.load_start = time.perf_counter()
            model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=DTYPES[args.dtype], **options)
            self.model = model.to(self.device).eval()
            self.load_seconds = time.perf_counter() - self.load_start

    @torch.inference_mode()
    def measure(self, shape: str, seconds: float) -> dict:
        lens = lengths(shape, self.max_length)
        rows = [row(shape, index, length, self.model.config) for index, length in enumerate(lens)]
        size = self.sorted_by or len(rows)
        order = sorted(range(len(rows)), key=lens.__getitem__) if self.sorted_by else list(range(len(rows)))
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        batches = [self.batch([rows[index] for index in part]) for part in parts]
        # `.cpu()` waits for the device, so a timed iteration holds all of its work.
        score = lambda: torch.cat([self.model(**batch).logits[:, 0].float() for batch in batches]).cpu()
        scores = score().tolist()
        logits = [scores[order.index(index)] for index in range(len(rows))]
        times = []
        start = time.perf_counter()
        while not times or (time.perf_counter() - start < seconds and len(times) < MOST_ITERATIONS):
            iteration = time.perf_counter()
            score()
            times.append(time.perf_counter() - iteration)
        return {
            "shape": shape,
            "rows": len(rows),
            "max_len": max(lens),
            "iterations": len(times),
            "pairs": len(rows) * len(times),
            "tokens": sum(lens) * len(times),
            "computed_tokens": sum(batch["input_ids"].numel() for batch in batches) * len(times),
            "seconds": times,
            "logits": logits,
        }

    def batch(self, rows: list) -> dict:
        longest = max(len(ids) for ids, _ in rows)
        pad = lambda values, fill: torch.tensor(
            [value + [fill] * (longest - len(value)) for value in values], device=self.device
        )
        return {
            "input_ids": pad([ids for ids, _ in rows], self.model.config.pad_token_id),
            "token_type_ids": pad([types for _, types in rows], 0),
            "attention_mask": pad([[1] * len(ids) for ids, _ in rows], 0),
        }


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    import platform

    return platform.processor() or platform.machine()


def say(value: dict) -> None:
    print(json.dumps(value), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure PyTorch's forward pass.")
    parser.add_argument("--shapes", type=lambda text: text.split(","), default=[])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--sorted-by", type=int, metavar="N", help="sort rows by length, N a batch")
    parser.add_argument("--model", type=Path, help="folder; the synthetic preset minilm-l6 if left out")
    parser.add_argument("--attention", choices=["eager", "sdpa"], help="transformers' own choice if left out")
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        subject = Subject(args)
        say(
            {
                "ready": True,
                "backend": subject.info,
                "model": subject.name,
                "model_sha256": subject.sha256,
                "load_seconds": subject.load_seconds,
            }
        )
        if args.shapes:
            for shape in args.shapes:
                say(subject.measure(shape, args.seconds))
            return 0
        for line in sys.stdin:
            request = json.loads(line)
            say(subject.measure(request["shape"], request["seconds"]))
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
