#!/usr/bin/env python3
"""Writes `src/model/quantised_linear.pt`: libtorch's dynamically quantised linear layer as a TorchScript module.

    python crates/backend-torch/scripts/quantised_linear.py

libtorch offers the operator to TorchScript only: its packed weights are an object of a custom class, which the C
interface under tch cannot hand to an operator. A module of three lines that holds them can be called. It has no
weights of its own; `pack` gives it some.
"""

import io
import sys
import zipfile
from pathlib import Path

import torch


def placeholder():
    weight = torch.quantize_per_channel(torch.ones(1, 1), torch.ones(1), torch.zeros(1), 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(weight, torch.zeros(1))


class QuantisedLinear(torch.nn.Module):
    """One layer; a module is loaded for each."""

    def __init__(self):
        super().__init__()
        self.packed = placeholder()

    @torch.jit.export
    def __getstate__(self) -> bool:
        # The packed weights cannot be saved as they are, and there is nothing in them to save.
        return self.training

    @torch.jit.export
    def __setstate__(self, training: bool):
        self.training = training
        self.packed = placeholder()

    @torch.jit.export
    def pack(self, weight: torch.Tensor, bias: torch.Tensor):
        """Takes f32 weights, `[outputs, inputs]`: a scale for each output, as PyTorch's `per_channel_dynamic_qconfig`."""
        largest = weight.abs().amax(1).clamp(min=1e-12)
        zero = torch.zeros(weight.size(0), dtype=torch.int64)
        weight = torch.quantize_per_channel(weight, largest / 127.0, zero, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(weight, bias)

    def forward(self, x: torch.Tensor):
        # The range is reduced to seven bits, which is PyTorch's default too: with eight, AVX2's multiply-adds saturate.
        return torch.ops.quantized.linear_dynamic(x, self.packed, True)


def main() -> int:
    path = Path(__file__).parent.parent / "src/model/quantised_linear.pt"
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(QuantisedLinear()), buffer)
    with zipfile.ZipFile(buffer) as saved, zipfile.ZipFile(path, "w") as kept:
        # What is left out maps the code to this file's place on the disk, for messages of errors.
        for entry in saved.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                kept.writestr(entry, saved.read(entry))
    print(f"{path}: {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
