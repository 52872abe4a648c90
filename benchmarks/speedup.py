"""What pruning gains in time when it is done for speed: ``python -m benchmarks.speedup``; writes JSON.

Networks lose the same share of each layer's units by :func:`splinelib.prune`, with widths rounded as by default, and
streams made compact. Beside them Torch-Pruning's own pruning of the same network, to the same FLOPs. A training step
and an inference pass with fused norms, dense and pruned in turn, round after round, the least time of each. On a CPU
these are seconds of one core, which other processes on the machine hardly disturb; on a GPU wall time. ``--modes
compiled`` has ``torch.compile`` take the networks, which needs a C++ compiler.
"""

import argparse
import copy
import json
import shutil
import sys
import warnings
from collections import defaultdict
from itertools import groupby

import torch
import torch_pruning
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.kept import RESULTS, write_result
from benchmarks.machine import machine, timed
from benchmarks.step_time import PASSES, inference, realised_share, step, trainer_of
from splinelib import prune
from splinelib.criteria import FilterNorm
from splinelib.layers import ChannelSelection
from splinelib.pruning import compact_streams, fuse_norms
from splinelib.pruning.flops import count_flops
from splinestudy.models import build_model

CASES = {"vgg16_bn": (32, 32), "resnet50": (224, 4), "preresnet20": (32, 32), "mobilenet_v2": (32, 32)}
"""Side of the images and their number in a batch."""
WAYS = ("splinelib", "Torch-Pruning")
MODES = ("eager", "compiled")
BISECTIONS = 6
KERNELS = 6  # of each network, those that take longest,
PROFILED = 5  # in so many runs


def pruned_for_speed(dense, images, ratio):
    """By us; which units go does not matter to time, so the cheapest criterion does."""
    return compact_streams(prune(dense, images, ratio, criterion=FilterNorm(1)), images)


def pruned_by_peer(dense, images, flops):
    """By Torch-Pruning, with the ratio at which its FLOPs come nearest to ``flops``; streams as it prunes them."""
    low, high, found = 0.0, 0.95, []
    for _ in range(BISECTIONS):
        ratio = (low + high) / 2
        model = copy.deepcopy(dense)
        for name, module in dense.named_modules():
            if isinstance(module, ChannelSelection):
                model.set_submodule(name, nn.Identity())
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        importance = torch_pruning.importance.MagnitudeImportance(p=1)
        torch_pruning.pruner.BasePruner(
            model, images, importance, pruning_ratio=ratio, ignored_layers=[last]
        ).step()
        count = count_flops(model, images)
        found.append((abs(count - flops), len(found), model))
        low, high = (ratio, high) if count > flops else (low, ratio)
    return min(found)[2]


def networks(arch, ratio, side, width=1.0):
    """``dense`` and what each way makes of it."""
    dense = build_model(arch, num_classes=10, width=width, image_size=side, seed=0)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    ours = pruned_for_speed(dense, images, ratio)
    return {
        "dense": dense,
        "splinelib": ours,
        "Torch-Pruning": pruned_by_peer(dense, images, count_flops(ours, images)),
    }


def noise(batch, side, device):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, side, side, generator=generator)
    labels = torch.randint(10, (batch,), generator=generator).to(device)
    return images.to(device, memory_format=torch.channels_last), labels


def actions(model, precision, mode, data, device):
    """What is timed of a network: a step, and an inference pass of its fused copy."""
    compiled = mode == "compiled"
    learner = trainer_of(copy.deepcopy(model), precision, device, compiled)
    fused = trainer_of(fuse_norms(model, data[0][:2].cpu()), precision, device, compiled)
    return {"step": lambda: step(learner, *data), "inference": lambda: inference(fused, *data)}


def seconds(run, device):
    _, wall, cpu = timed(run, device)
    return cpu if device.type == "cpu" else wall


def measure(models, precision, mode, side, batch, rounds, device):
    """Least seconds by network and pass, and the operators that take longest."""
    data = noise(batch, side, device)
    runs = {
        (which, name): run
        for which, model in models.items()
        for name, run in actions(model, precision, mode, data, device).items()
    }
    least = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds + 1):  # the first one warms up
        for key, run in runs.items():
            least[key] = min(least[key], seconds(run, device))
    return least, {key: kernels(run, device) for key, run in runs.items() if key[0] != "Torch-Pruning"}


def kernels(run, device):
    """Milliseconds of the operators that take longest themselves, by name, each call's least of some runs."""
    both = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    time = "self_cpu_time_total" if device.type == "cpu" else "self_device_time_total"
    calls = defaultdict(list)
    for _ in range(PROFILED):
        with profile(activities=both) as seen:
            run()
        for name, group in groupby(sorted(seen.events(), key=lambda call: call.name), lambda call: call.name):
            calls[name].append([getattr(call, time) / 1000 for call in group])
    found = {name: sum(map(min, zip(*runs, strict=False))) for name, runs in calls.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1])[:KERNELS])


def compare(models, least, side):
    """For each way and pass: operations and seconds, their ratios, the realised share."""
    example = torch.zeros(1, 3, side, side)
    flops = {
        (which, name): count(model, example)
        for which, model in models.items()
        for name, count in PASSES.items()
    }
    for way in WAYS:
        for name in PASSES:
            row = {"way": way, "pass": name}
            for which, key in (("dense", "dense"), ("pruned", way)):
                row |= {f"flops_{which}": flops[key, name], f"seconds_{which}": least[key, name]}
            row["flops_ratio"] = row["flops_dense"] / row["flops_pruned"]
            row["time_ratio"] = row["seconds_dense"] / row["seconds_pruned"]
            yield row | {"realised_share": realised_share(row["flops_ratio"], row["time_ratio"])}


def table(rows):
    head = ("network", "mode", "precision", "pass", "ratio", "way", "FLOPs ratio", "time ratio", "realised")
    keys = (
        "arch",
        "mode",
        "precision",
        "pass",
        "ratio",
        "way",
        "flops_ratio",
        "time_ratio",
        "realised_share",
    )
    cells = [
        head,
        *([f"{row[k]:.2f}" if isinstance(row[k], float) else row[k] for k in keys] for row in rows),
    ]
    return "\n".join("".join(f"{cell:>14}" for cell in line) for line in cells)


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--archs", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["eager"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser.parse_args()


def main():
    given = arguments()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "left whole")
    device = torch.device(given.device)
    output = RESULTS / ("speedup.json" if given.device == "cpu" else f"speedup_{given.device}.json")
    if "compiled" in given.modes and not shutil.which("g++"):
        sys.exit("torch.compile needs a C++ compiler, and there is no g++")
    before = json.loads(output.read_text())["rows"] if output.exists() else []
    for arch in given.archs:
        side, batch = CASES[arch]
        for ratio in given.ratios:
            models = networks(arch, ratio, side)
            for mode in given.modes:
                for precision in ("float32", "bfloat16"):
                    where = {"arch": arch, "mode": mode, "precision": precision, "ratio": ratio}
                    least, longest = measure(models, precision, mode, side, batch, given.rounds, device)
                    rows = [
                        where | row | {"side": side, "batch": batch} for row in compare(models, least, side)
                    ]
                    for row in rows:
                        if row["way"] == "splinelib":
                            row["kernels"] = {
                                k: longest[k if k == "dense" else row["way"], row["pass"]]
                                for k in ("dense", "splinelib")
                            }
                    # Other cases stay as they were measured.
                    before = [row for row in before if any(row[key] != where[key] for key in where)] + rows
                    result = {"machine": machine(1, device), "rows": before}
                    write_result(result, output)
                    sys.stdout.write(table(rows) + "\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
