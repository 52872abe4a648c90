"""Cost of spline early-bird detection: ``python -m benchmarks.detection [--sides 32 100]``; writes JSON.

Three ways through the same canvas, timed in turn, round after round, of which the least time of each counts; CPU time
stands beside wall time, since other work on the machine stretches only the latter.

* ``forward``: the canvas's forward pass alone, in the pieces that detection uses;
* ``codes``: sign codes, sampled and packed, which include that forward pass, as a detector reads them at every look
  but its first; then the distances that its rule needs, as ``window``, those to all earlier codes, and, as ``matrix``,
  those of every two;
* ``floats``: the authors' way, with every batch norm's float output moved to the host's memory and kept, and the
  distance of two epochs by comparing signs of all of them.

Peak memory is that of a fresh process which keeps ``--epochs`` epochs in its way. Networks are untrained, in
channels_last as training leaves them, and one epoch is copied to make many: neither time nor memory depends on what the
codes say.

The first canvas is the page's; the rows of the others stand under ``more`` by their sides.
"""

import argparse
import copy
import functools
import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from benchmarks.kept import RESULTS, write_result
from benchmarks.machine import least, machine, peak_memory, timed
from splinelib.early_bird.canvas import two_image_canvas
from splinelib.early_bird.codes import _CHUNK, sign_codes
from splinelib.early_bird.distances import code_distance, pairwise_distances
from splinelib.hooks import evaluating
from splinestudy.models import build_model

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = RESULTS / "detection.json"
ARCHS = ("vgg16_bn", "preresnet101")
WAYS = ("forward", "codes", "floats")
WINDOW = 3  # the detector's default
MB = 2**20


def setting(arch, width, side, device):
    """An untrained network in channels_last and a two-image canvas of ``side``² points between two random images."""
    model = build_model(arch, num_classes=10, width=width, image_size=32, seed=0)
    model = model.to(device, memory_format=torch.channels_last)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    return model, two_image_canvas(images[0], images[1], side)


def forward(model, canvas):
    with evaluating(model):
        for points in canvas.split(_CHUNK):
            model(points)


def float_activations(model, canvas):
    """Outputs of all batch norms on the host: for each a list of tensors [points of a piece, ...]."""
    kept = []
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    hooks = []
    for norm in norms:
        pieces = []
        kept.append(pieces)
        # The next non-linearity may work in place, so a copy is needed on the host as well.
        hooks.append(norm.register_forward_hook(lambda m, i, z, to=pieces: to.append(z.to("cpu", copy=True))))
    try:
        forward(model, canvas)
    finally:
        for hook in hooks:
            hook.remove()
    return kept


def float_distance(first, second):
    """Mean over layers of the share of differing signs."""
    shares = []
    for layer, other in zip(first, second, strict=True):
        differing = sum(int(((a > 0) != (b > 0)).sum()) for a, b in zip(layer, other, strict=True))
        shares.append(differing / sum(piece.numel() for piece in layer))
    return sum(shares) / len(shares)


def float_bytes(model, canvas):
    """Bytes of one epoch's float activations, found on the first point."""
    return (
        4
        * sum(piece.numel() for layer in float_activations(model, canvas[:1]) for piece in layer)
        * len(canvas)
    )


def copies(seen, epochs):
    """What was seen and as many copies as make ``epochs``: equal epochs take as much memory and time as others."""
    return [seen] + [copy.deepcopy(seen) for _ in range(epochs - 1)]


def to_earlier(history):
    """Distances of the last epoch to all before."""
    return [code_distance(history[-1], earlier) for earlier in history[:-1]]


def measure(cases, epochs, rounds, max_bytes, device):
    """Name -> row of least times in seconds, bytes kept per epoch, and what detection adds to the forward pass."""
    rows, places = {name: {} for name in cases}, {name: {} for name in cases}
    for round_ in range(rounds):
        for name, (model, canvas) in cases.items():
            row = rows[name]
            least(row, timed(lambda m=model, c=canvas: forward(m, c), device)[1:], "forward_")
            code, *seconds = timed(
                lambda m=model, c=canvas, p=places[name]: sign_codes(m, c, places=p), device
            )
            least(row, seconds, "codes_")
            history = copies(code, epochs)
            least(row, timed(lambda h=history: pairwise_distances(h[-1 - WINDOW :]))[1:], "window_")
            least(row, timed(lambda h=history: to_earlier(h))[1:], "distances_")
            least(row, timed(lambda h=history: pairwise_distances(h))[1:], "matrix_")
            del history
            if round_ == 0:
                row |= {"points": len(canvas), "layers": len(code.bits)}
                row["code_bytes"] = sum(layer.nbytes for layer in code.layers)
                row["float_bytes"] = float_bytes(model, canvas)
            if row["float_bytes"] <= max_bytes:
                floats, *seconds = timed(lambda m=model, c=canvas: float_activations(m, c), device)
                least(row, seconds, "floats_")
                least(row, timed(lambda f=floats: float_distance(f, f))[1:], "one_float_distance_")
                del floats
    for row in rows.values():
        for kind in ("wall", "cpu"):
            detection = row[f"codes_{kind}"] + row[f"window_{kind}"]
            row[f"overhead_{kind}"] = detection / row[f"forward_{kind}"] - 1
    return rows


def keep_epochs(arch, width, side, way, epochs):
    """Peak memory in MB of this process after keeping ``epochs`` epochs in one of ``WAYS``, on the CPU."""
    model, canvas = setting(arch, width, side, torch.device("cpu"))
    places = {}  # which a detector keeps as well
    codes = functools.partial(sign_codes, places=places)
    see = {"forward": forward, "codes": codes, "floats": float_activations}[way]
    kept = copies(see(model, canvas), epochs)
    return {"epochs": len(kept), "peak_mb": peak_memory()}


def memory(arch, width, side, way, epochs):
    """:func:`keep_epochs` in a fresh process."""
    code = "import json; from benchmarks.detection import keep_epochs; "
    code += f"print(json.dumps(keep_epochs({arch!r}, {width}, {side}, {way!r}, {epochs})))"
    command = [sys.executable, "-c", code]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)


def arguments_of_the_command_line():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=float, default=1.0, help="width factor of the networks")
    parser.add_argument(
        "--sides",
        type=int,
        nargs="+",
        default=[32, 100],
        help="points a side of each canvas: ours, the paper's",
    )
    parser.add_argument("--epochs", type=int, default=160, help="epochs kept and compared")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--max-bytes", type=int, default=2**31, help="skip the authors' way beyond this")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser.parse_args()


def rows_of(given, side):
    """What :func:`measure` finds on a canvas of ``side``² points, and the peaks of memory beside it."""
    cases = {arch: setting(arch, given.width, side, given.device) for arch in ARCHS}
    rows = measure(cases, given.epochs, given.rounds, given.max_bytes, given.device)
    for arch, row in rows.items():
        fits = row["float_bytes"] * given.epochs <= given.max_bytes
        for way in WAYS if fits else WAYS[:2]:
            row[f"{way}_peak_mb"] = memory(arch, given.width, side, way, given.epochs)["peak_mb"]
    return rows


def main():
    given = arguments_of_the_command_line()
    torch.set_num_threads(given.threads)
    canvases = {side: rows_of(given, side) for side in given.sides}
    first, *others = given.sides
    keys = ("width", "epochs", "rounds", "max_bytes")
    result = {
        "machine": machine(given.threads, given.device),
        "settings": {"side": first} | {key: getattr(given, key) for key in keys},
        "rows": canvases[first],
        "more": {str(side): canvases[side] for side in others},
    }
    for side, rows in canvases.items():
        sys.stdout.write(f"canvas of {side} points a side\n{table(rows)}\n")
    sys.stdout.write(f"machine: {result['machine']}\n")
    write_result(result, given.output)
    sys.stdout.write(f"written to {given.output}\n")


def table(rows):
    """One line for each network: seconds of CPU time, megabytes kept an epoch, peak megabytes."""
    missing = float("nan")
    columns = [f"{name}_cpu" for name in ("forward", "codes", "window", "floats", "overhead")]
    peaks = [f"{way}_peak_mb" for way in WAYS]
    lines = [f"{'network':14}" + "".join(f"{name:>17}" for name in (*columns, "code MB", "float MB", *peaks))]
    for name, row in rows.items():
        values = [row.get(key, missing) for key in columns]
        values += [row["code_bytes"] / MB, row["float_bytes"] / MB, *(row.get(key, missing) for key in peaks)]
        lines.append(f"{name:14}" + "".join(f"{value:>17.3f}" for value in values))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
