"""What pruning gains in time beside what it saves in FLOPs: ``python -m benchmarks.step_time``; writes JSON.

VGG-16 and PreResNet-20 at several widths lose the same share of each layer's units. Dense and pruned networks are timed
in turn, round after round, of which the least time of each counts: a step of :func:`splinestudy.training.loop.train`
(forward
pass, cross-entropy, backward pass, SGD) and an inference pass, on 32×32 images in channels-last memory, in float32 and
under bfloat16 autocast, on the CPU or, with ``--device cuda``, on a GPU. The *realised share* of the theoretical
speed-up is

    (time dense / time pruned - 1) / (FLOPs dense / FLOPs pruned - 1)

with wall time: 1 if time falls as FLOPs do, 0 if nothing is gained, negative if the pruned network is the slower one.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

from benchmarks.kept import RESULTS, write_result
from benchmarks.machine import least, machine, timed
from splinelib import prune
from splinelib.criteria import FilterNorm
from splinelib.pruning.flops import count_flops, training_flops
from splinestudy.models import build_model
from splinestudy.training.settings import TrainSettings
from splinestudy.training.trainer import Trainer

OUTPUTS = {"cpu": RESULTS / "step_time.json", "cuda": RESULTS / "step_time_cuda.json"}
PRECISIONS = ("float32", "bfloat16")
PASSES = {"step": training_flops, "inference": count_flops}  # what is timed, and what counts its operations
MIN_ROUNDS = 3  # the first one warms up
IMAGE = (3, 32, 32)


def realised_share(flops_ratio, time_ratio):
    """Share of the speed-up that the FLOPs promise; both ratios are dense to pruned."""
    return (time_ratio - 1) / (flops_ratio - 1)


def networks(arch, width, ratios):
    """Ratio -> network; 0 is the dense one. Which units go does not matter to time, so the cheapest criterion does."""
    dense = build_model(arch, num_classes=10, width=width, image_size=IMAGE[1], seed=0)
    example = torch.zeros(1, *IMAGE)
    return {0.0: dense} | {ratio: prune(dense, example, ratio, criterion=FilterNorm(1)) for ratio in ratios}


def trainer_of(model, precision, device, compiled=False):
    # At learning rate 0 the operations are the same, and no weight runs off on images that are noise.
    settings = TrainSettings(epochs=1, lr=0.0, precision=precision, compile=compiled)
    return Trainer(model.to(device), settings, seed=0, callbacks=(), checkpoint=None, every=0.0)


def step(trainer, images, labels):
    trainer.model.train()
    trainer._step(images, labels)


def inference(trainer, images, labels):
    low = trainer.settings.precision == "bfloat16"
    trainer.model.eval()
    with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=low):
        trainer.forward(images)


def noise(batch, device):
    """Images in channels-last memory, and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, *IMAGE, generator=generator).to(device, memory_format=torch.channels_last)
    return images, torch.randint(10, (batch,), generator=generator).to(device)


def measure(models, precision, batch, seconds, device):
    """Rows of one network on one device: dense and pruned in turn for ``seconds``, but at least ``MIN_ROUNDS``."""
    trainers = {ratio: trainer_of(model, precision, device) for ratio, model in models.items()}
    data = noise(batch, device)
    times = {(name, ratio): {} for name in PASSES for ratio in models}
    rounds, end = 0, time.perf_counter() + seconds
    while rounds < MIN_ROUNDS or time.perf_counter() < end:
        for (name, ratio), row in times.items():
            run = step if name == "step" else inference
            least(row, timed(lambda r=run, t=trainers[ratio]: r(t, *data), device)[1:])
        rounds += 1
    return [
        {"pass": name, "ratio": ratio, "rounds": rounds, **compare(models, times, name, ratio)}
        for name, ratio in times
        if ratio
    ]


def compare(models, times, name, ratio):
    """Operations and seconds of the dense and of the pruned network, and their ratios."""
    example = torch.zeros(1, *IMAGE)
    row = {}
    for which, key in (("dense", 0.0), ("pruned", ratio)):
        row[f"flops_{which}"] = PASSES[name](models[key], example)
        row |= {f"{kind}_{which}": value for kind, value in times[name, key].items()}
    row["flops_ratio"] = row["flops_dense"] / row["flops_pruned"]
    row["time_ratio"] = row["wall_dense"] / row["wall_pruned"]
    return row | {"realised_share": realised_share(row["flops_ratio"], row["time_ratio"])}


def table(rows):
    """One line for each comparison: milliseconds of wall and of CPU time, ratios, realised share."""
    columns = ("wall_dense", "wall_pruned", "cpu_dense", "cpu_pruned")
    head = f"{'network':12}{'width':>7}{'device':>8}{'precision':>11}{'pass':>11}{'ratio':>7}"
    lines = [
        head + "".join(f"{name:>13}" for name in (*columns, "FLOPs ratio", "time ratio", "realised")) + "  ms"
    ]
    for row in rows:
        line = f"{row['arch']:12}{row['width']:>7g}{row['device']:>8}{row['precision']:>11}{row['pass']:>11}"
        line += f"{row['ratio']:>7g}" + "".join(f"{1000 * row[name]:>13.2f}" for name in columns)
        lines.append(
            line + "".join(f"{row[key]:>13.2f}" for key in ("flops_ratio", "time_ratio", "realised_share"))
        )
    return "\n".join(lines)


def arguments_of_the_command_line():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--widths", type=float, nargs="+", default=[0.125, 0.25, 1.0], help="of VGG-16")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument(
        "--seconds",
        type=float,
        default=20,
        help="for each network and precision; at least three rounds",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=OUTPUTS, default="cpu")
    parser.add_argument("--output", type=Path, help="by default the device's file in benchmarks/results")
    return parser.parse_args()


def main():
    given = arguments_of_the_command_line()
    torch.set_num_threads(given.threads)
    device, output = torch.device(given.device), given.output or OUTPUTS[given.device]
    rows = []
    residual = [("preresnet20", 0.5), ("preresnet20", 1.0)]
    for arch, width in [*(("vgg16_bn", width) for width in given.widths), *residual]:
        models = networks(arch, width, given.ratios)
        for precision in PRECISIONS:
            where = {"arch": arch, "width": width, "device": device.type, "precision": precision}
            found = measure(models, precision, given.batch, given.seconds, device)
            rows += [where | row for row in found]
    settings = {key: getattr(given, key) for key in ("widths", "ratios", "batch", "seconds")}
    result = {"machine": machine(given.threads, device), "settings": settings, "rows": rows}
    write_result(result, output)
    sys.stdout.write(table(rows) + f"\nmachine: {result['machine']}\nwritten to {output}\n")


if __name__ == "__main__":
    main()
