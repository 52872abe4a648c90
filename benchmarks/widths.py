"""Which widths a convolution is fast at: ``python -m benchmarks.widths``; prints a table and writes JSON.

Two 3×3 convolutions with batch norm and ReLU between them, by the number of channels between them: a training step and
an inference pass on 16 images in channels-last memory, in seconds of one core. From one multiple of 16 to the next time
hardly rises, and past it it jumps: what stays above a multiple is paid for as if it were 16 channels more.
"""

import sys
import time

import torch
from torch import nn

from benchmarks.kept import RESULTS, write_result
from benchmarks.machine import machine

CASES = {
    (16, 32): range(8, 17),
    (64, 32): (32, 36, 40, 42, 44, 45, 46, 48, 50, 52, 56, 64),
    (128, 16): (64, 72, 80, 82, 84, 86, 88, 89, 90, 92, 96, 98, 104, 112),
    (256, 8): (160, 168, 172, 176, 178, 179, 180, 184, 192, 194, 200, 208),
}
"""Channels around, and side of the image; the widths between them."""
BATCH, ROUNDS = 16, 8


def runs(outside, width, side, precision):
    """A training step and an inference pass."""
    model = nn.Sequential(
        nn.Conv2d(outside, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, outside, 3, padding=1, bias=False),
    )  # fmt: skip
    images = torch.randn(BATCH, outside, side, side, requires_grad=True)
    images = images.contiguous(memory_format=torch.channels_last)

    def forward(training):
        model.train(training)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return model(images)

    return {
        "step": lambda: forward(True).sum().backward(),
        "inference": torch.no_grad()(lambda: forward(False)),
    }


def measure(outside, side, widths, precision):
    """Least milliseconds of CPU time by pass and width."""
    calls = {(name, w): run for w in widths for name, run in runs(outside, w, side, precision).items()}
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for key, call in calls.items():
            start = time.process_time()
            call()
            least[key] = min(least[key], 1000 * (time.process_time() - start))
    return {name: {w: least[name, w] for w in widths} for name in ("step", "inference")}


def main():
    torch.set_num_threads(1)
    rows = []
    for (outside, side), widths in CASES.items():
        for precision in ("float32", "bfloat16"):
            for name, times in measure(outside, side, widths, precision).items():
                rows.append(
                    {"outside": outside, "side": side, "precision": precision, "pass": name, "ms": times}
                )
                line = "  ".join(f"{width}: {ms:.2f}" for width, ms in times.items())
                sys.stdout.write(f"{outside} channels, side {side}, {precision}, {name}, ms: {line}\n")
    write_result({"machine": machine(1), "rows": rows}, RESULTS / "widths.json")


if __name__ == "__main__":
    main()
