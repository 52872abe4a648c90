"""Which networks of torchvision and timm are pruned right: ``python -m benchmarks.zoo [MODEL ...]``.

The smallest member of each family with random weights in float64, so that the pruned network must equal, up to
rounding, the dense one whose readers see nothing of the removed units (``tests/oracles_cut.py``, which shares no code
with the surgery). Networks that are named replace their rows. Writes JSON and the book's table.
"""

import re
import signal
import sys
import time
import warnings

import timm
import torch
import torchvision
from torch import nn

from benchmarks.kept import RESULTS, load, write_result
from benchmarks.page import write_text
from splinelib import Spline, read_layers
from splinelib.pruning import select_units, split_attention
from splinelib.pruning.pipeline import remove_compensated
from splinestudy.results.tables import markdown_table
from tests.oracles_cut import without_units

MODELS = {
    "torchvision": "alexnet vgg11_bn resnet18 resnext50_32x4d regnet_y_400mf densenet121 squeezenet1_1 googlenet "
    "inception_v3 mobilenet_v2 mobilenet_v3_small shufflenet_v2_x0_5 mnasnet0_5 efficientnet_b0 convnext_tiny vit_b_16 "
    "swin_t",
    "timm": "lcnet_050 regnetx_002 repvgg_a0 ghostnet_050 dla46_c ese_vovnet19b_slim mixnet_s skresnet18 mobileone_s0 "
    "selecsls42b cs3darknet_s resnest14d convnextv2_atto res2net50_14w_8s vit_tiny_patch16_224 "
    "swin_tiny_patch4_window7_224",
}
OPTIONS = dict.fromkeys(("googlenet", "inception_v3"), {"init_weights": False})
OPTIONS |= {"vit_b_16": {"image_size": 64}}
OPTIONS |= dict.fromkeys(("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"), {"img_size": 64})
RATIO, LIMIT = 0.5, 60  # share of the units that goes; CPU seconds after which a step is given up
TOLERANCE = 1e-6  # largest error that counts as rounding
COLUMNS = {"network": "---"} | dict.fromkeys(
    ("modules cut", "units removed", "parameters left", "error", "seconds", "left whole"), "---:"
)
LEFT = re.compile(r"left whole: ('[^']*'(?:, '[^']*')*): (.*)", re.DOTALL)  # names and reason


@torch.no_grad()
def build(library, name):
    """The network, with scales, shifts and statistics at which units are alive and branches count, and four images."""
    side = 80 if name == "inception_v3" else 64
    images = torch.randn(16, 3, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.manual_seed(0)
    create = torchvision.models.get_model if library == "torchvision" else timm.create_model
    model = split_attention(create(name, **OPTIONS.get(name, {}))).double().eval()
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):
            nn.init.normal_(parameter, std=0.2)
        elif parameter.squeeze().ndim < 2:
            nn.init.uniform_(parameter, 0.5, 1.5)
        elif not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train().momentum = 1.0  # statistics are those of the one batch
    model(images)
    return model.eval(), images[:4]


def within(action, *arguments):
    """What it returns and the CPU seconds that it takes, which may not be more than ``LIMIT``."""

    def stop(*_):
        raise SystemExit(f"took more than {LIMIT} s")  # which no `except Exception` on the way hides

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    start = time.process_time()
    try:
        return action(*arguments), time.process_time() - start
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def measure(model, inputs):
    """What is read of the network, and each way of pruning it held against the oracle."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layers, seconds = within(read_layers, model, inputs)
    left = [LEFT.match(str(warning.message)).groups() for warning in caught]
    row = {
        "modules": sum(isinstance(m, (nn.modules.conv._ConvNd, nn.Linear)) for m in model.modules()),
        "writers": len({writer.module for layer in layers for writer in layer.writers}),
        "units": sum(layer.units for layer in layers),
        "left": sum(len(names.split(", ")) for names, _ in left),
        "why": left[0][1] if left else None,
        "seconds": seconds,
        "cuts": [],
    }
    scores = Spline()(model, layers)
    for scope in ("layerwise", "global"):
        selection = select_units(layers, scores, RATIO, scope)
        for compensation in ("none", "merge"):
            cut = {"scope": scope, "compensation": compensation, "units": sum(map(len, selection.values()))}
            row["cuts"].append(cut | check(model, inputs, layers, selection, compensation))
    return row


@torch.no_grad()
def check(model, inputs, layers, selection, compensation):
    """One pruning; without compensation, its largest error, relative to how much outputs differ between images."""
    pruned, seconds = within(remove_compensated, model, inputs, layers, selection, compensation, None)
    dense, found = model(inputs), pruned(inputs)
    before, after = (sum(parameter.numel() for parameter in net.parameters()) for net in (model, pruned))
    row = {"parameters": after / before, "seconds": seconds}
    if compensation != "none":
        return row | {"right": found.shape == dense.shape and bool(found.isfinite().all())}
    wanted = without_units(model, inputs, layers, selection)
    # What goes wrong early in a network is damped on its way to the outputs, as differences between images are.
    scale = torch.minimum((wanted - wanted.mean(0)).abs().max(), (dense - wanted).abs().max())
    error = float((found - wanted).abs().max() / scale)
    return row | {"error": error, "right": error < TOLERANCE}


def line(row):
    if "raised" in row:
        return [row["model"], *["–"] * 6]
    plain = [cut for cut in row["cuts"] if cut["compensation"] == "none"]
    error = f"{max(cut['error'] for cut in plain):.0e}".replace("-", "−")  # a hyphen lets the cell break
    return [
        row["model"],
        f"{row['writers']} of {row['modules']}",
        f"{plain[0]['units']} of {row['units']}",
        " / ".join(f"{cut['parameters']:.0%}" for cut in plain),
        error if all(cut["right"] for cut in row["cuts"]) else f"**{error}**",
        f"{row['seconds'] + plain[0]['seconds']:.1f}",
        str(row["left"] or "–"),
    ]


def reasons(row):
    if "raised" in row:
        return [f"* **{row['model']}** is not read: {row['raised']}"]
    return [f"* {row['model']}, the first of {row['left']}: {row['why']}"] if row["left"] else []


def save(rows):
    write_result(rows, RESULTS / "zoo.json")
    right = sum("cuts" in row and all(cut["right"] for cut in row["cuts"]) for row in rows)
    table = markdown_table(COLUMNS, [line(row) for row in rows])
    why = ["", "Left whole:", "", *(text for row in rows for text in reasons(row))]
    write_text([f"{right} of {len(rows)} are right.", "", *table, *(why if why[3:] else [])], "zoo.txt")


def main():
    rows = {row["model"]: row for row in load("zoo.json") or []}
    networks = [(library, name) for library, names in MODELS.items() for name in names.split()]
    for library, name in networks:
        if name in (sys.argv[1:] or [name]):
            rows[name] = {"library": library, "model": name}
            try:
                rows[name] |= measure(*build(library, name))
            except (Exception, SystemExit) as error:  # whatever it is, the table says so
                rows[name]["raised"] = " ".join(f"{type(error).__name__}: {error}".split())
            print(*line(rows[name]), sep=" | ", flush=True)
            save([rows[name] for _, name in networks if name in rows])


if __name__ == "__main__":
    main()
