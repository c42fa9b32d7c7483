"""numpy's mirror of crates/rerank-model-synth: the same seed gives the same model.safetensors, bit for bit.

Both sides assert the checksums in crates/rerank-model-synth/checksums.txt, so neither can drift alone.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import safetensors.numpy

CHECKSUMS = Path(__file__).resolve().parents[2] / "rerank-model-synth" / "checksums.txt"
GAMMA = np.uint64(0x9E3779B97F4A7C15)


def fnv1a64(name: str) -> int:
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def finalize(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Stream:
    """The random numbers that belong to one seed and one name; element i depends on no other."""

    def __init__(self, seed: int, name: str):
        self.key = finalize(np.array([seed ^ fnv1a64(name)], dtype=np.uint64) + GAMMA)

    def bits(self, start: int, count: int) -> np.ndarray:
        index = np.arange(start, start + count, dtype=np.uint64)
        return finalize(self.key + (index + np.uint64(1)) * GAMMA)

    def uniform(self, count: int) -> np.ndarray:
        """[-1, 1) from the top 24 bits, exact in float32."""
        top = (self.bits(0, count) >> np.uint64(40)).astype(np.int32) - np.int32(1 << 23)
        return top.astype(np.float32) / np.float32(1 << 23)

    def below(self, start: int, count: int, bound: int) -> np.ndarray:
        return ((self.bits(start, count) >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32)


def preset(name: str) -> dict:
    minilm = dict(
        name=name, architecture="bert", hidden_size=384, intermediate_size=1536, layers=2, heads=12,
        vocab_size=30522, type_vocab_size=2, max_position_embeddings=512, layer_norm_eps=1e-12, pad_token_id=0, seed=1,
    )
    roberta = dict(
        minilm, hidden_size=160, intermediate_size=640, heads=5, type_vocab_size=1, max_position_embeddings=514,
        layer_norm_eps=1e-5, pad_token_id=1,
    )
    return {
        "minilm-l6": dict(minilm, layers=6),
        "minilm-l2": minilm,
        "roberta-small": dict(roberta, architecture="roberta", vocab_size=3000),
        "xlm-roberta-small": dict(roberta, architecture="xlm-roberta", vocab_size=4000),
    }[name]


def centre_and_spread(kind: str, fan_in: int) -> tuple[np.float32, np.float32]:
    def gain(g: float) -> float:
        return g * math.sqrt(3.0 / fan_in)

    centre, spread = {
        "word": (0.0, 0.0625),
        "position": (0.0, 0.015625),
        "token_type": (0.0, 0.0078125),
        "norm_gain": (1.0, 0.125),
        "norm_shift": (0.0, 0.0625),
        "bias": (0.0, 0.0625),
        "attend": (0.0, gain(1.5)),
        "keep": (0.0, gain(1.0)),
        "down": (0.0, gain(1.5)),
        "logit": (0.0, gain(8.0)),
    }[kind]
    return np.float32(centre), np.float32(spread)


def describe(spec: dict):
    """Yields (name, shape, kind) of every tensor."""
    hidden, inner, layers = spec["hidden_size"], spec["intermediate_size"], spec["layers"]
    bert = spec["architecture"] == "bert"
    body = "bert" if bert else "roberta"
    embeddings = f"{body}.embeddings"
    yield f"{embeddings}.word_embeddings.weight", (spec["vocab_size"], hidden), "word"
    yield f"{embeddings}.position_embeddings.weight", (spec["max_position_embeddings"], hidden), "position"
    yield f"{embeddings}.token_type_embeddings.weight", (spec["type_vocab_size"], hidden), "token_type"
    norms = [f"{embeddings}.LayerNorm"]
    linears = []
    for layer in range(layers):
        layer = f"{body}.encoder.layer.{layer}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        linears += [
            (f"{layer}.attention.self.query", (hidden, hidden), "attend"),
            (f"{layer}.attention.self.key", (hidden, hidden), "attend"),
            (f"{layer}.attention.self.value", (hidden, hidden), "keep"),
            (f"{layer}.attention.output.dense", (hidden, hidden), "keep"),
            (f"{layer}.intermediate.dense", (inner, hidden), "keep"),
            (f"{layer}.output.dense", (hidden, inner), "down"),
        ]
    head = ("bert.pooler.dense", "classifier") if bert else ("classifier.dense", "classifier.out_proj")
    linears += [(head[0], (hidden, hidden), "keep"), (head[1], (1, hidden), "logit")]
    for name in norms:
        yield f"{name}.weight", (hidden,), "norm_gain"
        yield f"{name}.bias", (hidden,), "norm_shift"
    for name, shape, kind in linears:
        yield f"{name}.weight", shape, kind
        yield f"{name}.bias", shape[:1], "bias"


def tensors(spec: dict) -> dict[str, np.ndarray]:
    out = {}
    for name, shape, kind in describe(spec):
        centre, spread = centre_and_spread(kind, shape[-1])
        values = Stream(spec["seed"], name).uniform(math.prod(shape))
        out[name] = (centre + spread * values).reshape(shape)
    return out


def check(name: str, weights: bytes) -> None:
    """Refuses weights of a preset that are not those which the Rust crate generates."""
    known = {line.split()[1]: line.split()[0] for line in CHECKSUMS.read_text().splitlines()}
    found = hashlib.sha256(weights).hexdigest()
    assert known.get(name) == found, f"{name}: {found} is not the checksum in {CHECKSUMS.name}"


def checkpoint(spec: dict) -> tuple[str, bytes]:
    """config.json and model.safetensors."""
    model_type, family = {
        "bert": ("bert", "Bert"),
        "roberta": ("roberta", "Roberta"),
        "xlm-roberta": ("xlm-roberta", "XLMRoberta"),
    }[spec["architecture"]]
    config = {
        "architectures": [f"{family}ForSequenceClassification"],
        "model_type": model_type,
        "hidden_act": "gelu",
        "hidden_size": spec["hidden_size"],
        "intermediate_size": spec["intermediate_size"],
        "num_hidden_layers": spec["layers"],
        "num_attention_heads": spec["heads"],
        "vocab_size": spec["vocab_size"],
        "type_vocab_size": spec["type_vocab_size"],
        "max_position_embeddings": spec["max_position_embeddings"],
        "layer_norm_eps": spec["layer_norm_eps"],
        "pad_token_id": spec["pad_token_id"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "torch_dtype": "float32",
    }
    return json.dumps(config), safetensors.numpy.save(tensors(spec), metadata={"format": "pt"})
