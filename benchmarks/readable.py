"""Which convolutional networks of torchvision and timm the exact partition reads: ``python -m benchmarks.readable``.

One of each family, that with the fewest parameters, since what can be read depends on the steps and not on their
number. Writes JSON and the book's table, anew after each family; families that are in the JSON already are not asked
again, so that a run that was stopped goes on where it was. ``--anew`` asks all, ``--gigabytes`` is what they may take.
"""

import argparse
import re
import resource
import time
import warnings

import timm
import torch
import torchvision
from torch import nn

from benchmarks.kept import RESULTS, load, write_result
from benchmarks.page import write_text
from splinelib.errors import SplineError
from splinelib.partition import Slice2D
from splinelib.partition.engine.reader import read_layout
from splinestudy.results.tables import markdown_table

# Transformers, which have a convolution or few at their start, are not asked: attention multiplies activations.
LEAST_CONVOLUTIONS = 8
NO_CONVOLUTIONS = "no convolutional network"


class Out(nn.Module):
    """The one tensor of a segmentation network's answer."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        """What it says of each pixel."""
        return self.model(x)["out"]


def builders():
    """(library, family) -> builders by name."""
    found = {}
    for name in torchvision.models.list_models(
        exclude=["quantized_*", "*rcnn*", "retinanet*", "fcos*", "ssd*", "raft*"]
    ):
        build = torchvision.models.get_model_builder(name)
        family = build.__module__.removeprefix("torchvision.models.")

        def plain(build=build, family=family):
            options = {"init_weights": False} if family in ("googlenet", "inception") else {}
            options |= {"weights_backbone": None} if "segmentation" in family else {}
            model = build(weights=None, **options)
            return Out(model) if "segmentation" in family else model

        found.setdefault(("torchvision", family), {})[name] = plain
    for family in timm.list_modules():
        for name in timm.list_models(module=family):
            found.setdefault(("timm", family), {})[name] = lambda name=name: timm.create_model(name)
    return found


def smallest(variants, device="meta"):
    """The name of the variant with the fewest parameters, or None if none is a convolutional network."""
    sizes, built = {}, False
    for name, build in variants.items():
        try:
            with torch.device(device):
                model = build()
        except Exception:  # some cannot be built without memory: their siblings stand for them
            continue
        built = True
        if sum(isinstance(m, (nn.Conv2d, nn.Conv3d)) for m in model.modules()) >= LEAST_CONVOLUTIONS:
            sizes[name] = sum(parameter.numel() for parameter in model.parameters())
    if not built and device == "meta":
        return smallest(variants, "cpu")
    return min(sizes, key=sizes.get) if sizes else None


def read(model, shapes):
    """None if the model is read with inputs of one of the shapes, else why it is not."""
    why = ""
    for shape in shapes:
        images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
        try:
            read_layout(model, Slice2D.through(*images).plane)
            return None
        except SplineError as error:
            why = why or str(error)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
                raise
            return "takes more memory than it was given"
    return why


def reason(message):
    """A message in few words."""
    if "cannot read one input" in message:
        return "needs larger inputs than were tried"
    for pattern in (
        r"^(.*) at '.*' is not supported",
        r"(product of two activations)",
        r"(traced by torch\.fx)",
    ):
        if found := re.search(pattern, message):
            return {"traced by torch.fx": "cannot be traced"}.get(found[1], found[1])
    return message.split(": ", 1)[-1].split(";")[0]


def measure(rows):
    """A row for each family that is not among ``rows``, one by one."""
    torch.manual_seed(0)
    there = {(row["library"], row["family"]) for row in rows}
    for (library, family), variants in builders().items():
        if (library, family) in there:
            continue
        name = smallest(variants)
        if name is None:
            yield {"library": library, "family": family, "model": None, "why": NO_CONVOLUTIONS}
            continue
        model = variants[name]().eval()
        size = getattr(model, "default_cfg", {}).get("input_size", (3, 224, 224))
        start = time.perf_counter()
        shapes = [(3, 8, 32, 32)] if "video" in family else [(3, 64, 64), (3, 96, 96), size]
        message = read(model, shapes)
        print(library, family, name, round(time.perf_counter() - start, 1), message or "read", flush=True)
        yield {"library": library, "family": family, "model": name, "why": message and reason(message)}


def table(rows):
    """A line for those that are read, and one for each reason why others are not."""
    asked = {library: sum(row["library"] == library for row in rows) for library in ("torchvision", "timm")}
    rows = [row for row in rows if row["model"]]
    whys = sorted(
        {row["why"] for row in rows if row["why"]}, key=lambda why: -sum(r["why"] == why for r in rows)
    )
    lines = []
    for why in [None, *whys]:
        names = [", ".join(f"`{r['model']}`" for r in rows if r["why"] == why and r["library"] == library)
                 for library in ("torchvision", "timm")]  # fmt: skip
        lines.append(["**read**" if why is None else f"not read: {why}", *(name or "–" for name in names)])
    heads = [f"{library} ({count} families)" for library, count in asked.items()]
    return markdown_table({"": "---"} | dict.fromkeys(heads, "---"), lines)


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anew", action="store_true")
    parser.add_argument("--gigabytes", type=float, default=16.0)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (int(arguments.gigabytes * 1e9),) * 2)
    rows = [] if arguments.anew else load("readable.json") or []
    for row in measure(rows):
        rows.append(row)
        write_result(rows, RESULTS / "readable.json")
        write_text(table(rows), "readable.txt")


if __name__ == "__main__":
    main()
