"""How fast the study trains against what the machine can multiply: ``python -m benchmarks.throughput``; writes JSON.

For every network of the study, dense and without half of each layer's units: images a second of a training step
(forward, loss, backward, SGD; batch 128, bfloat16 autocast, channels last), operations a second by torch's counter, and
their share of the better of two rates of the same machine in the same run: a product of two square matrices, and a
3×3 convolution of 256 channels, forward, both in bfloat16. Beside it the share of a step that augmentation takes, and
how many times as long the step takes, in turn with it, where convolutions of small maps are left to the library
(:mod:`splinestudy.training.small_maps`): 1 on a machine without matrix units.
"""

import argparse
import contextlib
import sys
from pathlib import Path

import torch

from benchmarks.kept import RESULTS, write_result
from benchmarks.machine import CPU, least, machine, timed
from benchmarks.step_time import networks, noise, step, trainer_of
from splinelib.pruning.flops import training_flops
from splinestudy.data.batching import crop_and_flip
from splinestudy.models import build_model

OUTPUT = RESULTS / "throughput.json"
NETWORKS = (("vgg16_bn", 1.0), ("vgg16_bn", 0.5), ("preresnet20", 1.0))
BATCH = 128
ROUNDS = 8  # the first one warms up


def rates():
    """Operations a second in bfloat16 of a matrix product and of a convolution, the best of several."""
    size, channels = 2048, 256
    matrix = torch.randn(size, size, dtype=torch.bfloat16)
    convolution = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False, dtype=torch.bfloat16)
    images = torch.randn(BATCH, channels, 16, 16, dtype=torch.bfloat16)
    images, convolution = (each.to(memory_format=torch.channels_last) for each in (images, convolution))
    with torch.no_grad():
        product = min(timed(lambda: matrix @ matrix)[1] for _ in range(ROUNDS))
        window = min(timed(lambda: convolution(images))[1] for _ in range(ROUNDS))
    return {
        "matrix_product": 2 * size**3 / product,
        "convolution": 2 * BATCH * 16 * 16 * 9 * channels**2 / window,
    }


def augmentation():
    """Seconds that crops and flips of one batch take."""
    images = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8)
    offsets, flips = torch.randint(9, (BATCH, 2)), torch.rand(BATCH) < 0.5
    return min(timed(lambda: crop_and_flip(images, offsets, flips))[1] for _ in range(5 * ROUNDS))


def row(arch, width, ratio, model, best):
    trainer, data, times, library = trainer_of(model, "bfloat16", CPU), noise(BATCH, CPU), {}, {}
    for _ in range(ROUNDS):
        least(times, timed(lambda: step(trainer, *data))[1:])
        faster, trainer.faster = trainer.faster, contextlib.nullcontext()
        least(library, timed(lambda: step(trainer, *data))[1:])
        trainer.faster = faster
    operations = BATCH * training_flops(model, torch.zeros(1, 3, 32, 32))
    return {
        "arch": arch,
        "width": width,
        "ratio": ratio,
        "step": times["wall"],
        "images": BATCH / times["wall"],
        "operations": operations / times["wall"],
        "share": operations / times["wall"] / best,
        "augmentation": augmentation() / times["wall"],
        "library": library["wall"] / times["wall"],
    }


def table(rows):
    lines = [
        f"{'network':14}{'width':>7}{'ratio':>7}{'images/s':>10}{'GFLOP/s':>9}{'of best':>9}{'augmenting':>12}"
        f"{'library':>9}"
    ]
    for each in rows:
        lines.append(
            f"{each['arch']:14}{each['width']:>7g}{each['ratio']:>7g}{each['images']:>10,.0f}"
            f"{each['operations'] / 1e9:>9.0f}{each['share']:>9.2f}{each['augmentation']:>12.3f}{each['library']:>9.2f}"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = rates()
    rows = [
        row(
            "simple_cnn",
            1.0,
            0.0,
            build_model("simple_cnn", num_classes=10, image_size=32, seed=0),
            max(found.values()),
        )
    ]
    for arch, width in NETWORKS:
        for ratio, model in networks(arch, width, [0.5]).items():
            rows.append(row(arch, width, ratio, model, max(found.values())))
    result = {"machine": machine(given.threads), "rates": found, "rows": rows}
    write_result(result, given.output)
    speeds = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in found.items())
    sys.stdout.write(f"{table(rows)}\nrates in bfloat16: {speeds}\nmachine: {result['machine']}\n")


if __name__ == "__main__":
    main()
