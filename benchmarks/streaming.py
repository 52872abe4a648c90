"""Does reading image files hold up training? ``python -m benchmarks.streaming``; writes JSON.

Steps of :func:`splinestudy.training.loop.train` on image files that threads decode, against the same steps on one batch
that stays in memory, in turns and in one process. The files are made here: JPEGs of 500 × 375 pixels, smooth shapes
with noise. Bar: 90 % of the resident rate.

*ratio* is of wall times; *cpu_ratio* of the process's CPU times: how much work reading adds where it shares the cores,
whatever else the machine does. For that steps take one thread, since threads that wait for each other count as busy.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.kept import RESULTS, write_result
from benchmarks.machine import machine, timed
from splinestudy.data import batches, load_dataset
from splinestudy.models import build_model
from splinestudy.training.settings import TrainSettings
from splinestudy.training.trainer import Trainer

OUTPUT = RESULTS / "streaming.json"
NETWORKS = ("resnet18", "resnet50")
WIDTH, HEIGHT, CLASSES = 500, 375, 4


def write_tree(folder, count):
    """``count`` training images of noise on smooth shapes, and one validation image of each class."""
    rng = np.random.default_rng(0)
    for part, number in (("train", count // CLASSES), ("val", 1)):
        for label in range(CLASSES):
            (folder / part / str(label)).mkdir(parents=True)
            for index in range(number):
                coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
                smooth = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
                noisy = np.asarray(smooth) + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
                picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
                picture.save(folder / part / str(label) / f"{index}.jpg", quality=90)
    sizes = [file.stat().st_size for file in folder.rglob("*.jpg")]
    return sum(sizes) / len(sizes)


def epochs(dataset, batch):
    """Training batches without end, the next ones being decoded meanwhile."""
    epoch = 0
    while True:
        generator = torch.Generator().manual_seed(epoch)
        yield from batches(dataset.train, dataset, batch, generator=generator, augment=True)
        epoch += 1


def measure(arch, dataset, batch, rounds, steps):
    """Images a second of both ways, the medians of so many rounds in turns, and the median ratios of a round."""
    model = build_model(arch, num_classes=CLASSES, image_size=224, seed=0)
    settings = TrainSettings(epochs=1, lr=0.0, precision="bfloat16")
    trainer = Trainer(model, settings, seed=0, callbacks=(), checkpoint=None, every=0.0)
    model.train()
    times = []
    for _ in range(rounds):
        files = epochs(
            dataset, batch
        )  # anew, so that nothing is decoded while the resident batch has its turn
        one = next(files)
        read = timed(lambda files=files: [trainer._step(*next(files)) for _ in range(steps)])[1:]
        files.close()
        kept = timed(lambda one=one: [trainer._step(*one) for _ in range(steps)])[1:]
        times.append((kept, read))
    (kept_wall, read_wall), (kept_cpu, read_cpu) = np.array(times).transpose(2, 1, 0)
    return {
        "arch": arch,
        "resident": batch * steps / np.median(kept_wall),
        "files": batch * steps / np.median(read_wall),
        "core_seconds": float(np.median(kept_cpu)) / (batch * steps),  # for an image of the resident batch
        "ratio": float(np.median(kept_wall / read_wall)),
        "cpu_ratio": float(np.median(kept_cpu / read_cpu)),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        size = write_tree(Path(folder), 4 * given.batch)
        dataset = load_dataset("imagefolder", folder)
        rows = [measure(arch, dataset, given.batch, given.rounds, given.steps) for arch in NETWORKS]
    settings = {"batch": given.batch, "rounds": given.rounds, "steps": given.steps, "bytes": size}
    result = {"machine": machine(given.threads), "settings": settings, "rows": rows}
    write_result(result, given.output)
    for row in rows:
        sys.stdout.write(
            "{arch}: {resident:.1f} resident, {files:.1f} from files, {ratio:.2f} ({cpu_ratio:.2f})\n".format(
                **row
            )
        )
    sys.stdout.write(f"machine: {result['machine']}\nwritten to {given.output}\n")


if __name__ == "__main__":
    main()
