"""What ``fuzz.py`` calls of the study: data, networks, runs, every option of the command line, every notebook."""

import argparse
import contextlib
import dataclasses
import io
import json
from pathlib import Path
from unittest import mock

import torch
from fuzz_targets import DATA, FOLDER, common, damaged, public, with_defaults
from tiny_runs import SETTINGS, tiny_network

import splinestudy
from splinelib.errors import SettingError
from splinestudy import __main__ as cli
from splinestudy import data, models
from splinestudy.data.arrays import read_arrays
from splinestudy.runs import check, committed
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.plans import plan
from splinestudy.runs.profiles import Profile, get_profile
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.records import read_record
from splinestudy.runs.store import RecordStore
from splinestudy.runs.sweep import SweepReport
from splinestudy.training.loop import evaluate, train
from splinestudy.training.settings import TrainSettings
from splinestudy.training.starts import boundaries_through_data, lsuv

NOTEBOOKS = sorted((Path(splinestudy.__file__).parents[1] / "notebooks").glob("*.ipynb"))
DENSE = DenseRun("digits", 10, "vgg16_bn", 0.1, 0, SETTINGS, 4, (0.5,))
# A record, which is all that there is where the committed ones are looked for.
KEY, (_, RUN) = next(iter(committed.owners().items()))
(FOLDER / "none").mkdir()
RECORDS = RecordStore(FOLDER / "records")
RECORD = RECORDS.save(RUN, {}, {})
# Sound values of the command line's options; those with choices need none.
SOUND = {
    "store": FOLDER / "store", "out": FOLDER / "out", "jobs": 1, "minutes": 1, "tolerance": 0.1, "budget": "1m",
    "shard": "1/2", "images": 10, "epochs": 1, "finetune_epochs": 1, "width": 0.1, "seeds": 0, "ratios": 0.5,
    "curve": 0.5, "workers": 2, "hours": 1, "gpus": 0, "keys": KEY,
}  # fmt: skip
FIRST = {"name": "early_bird", "sweep": "toy", "profile": "smoke", "names": "digits", "dataset": "digits"}


def study_values():
    """Sound values by the names of arguments."""
    return {
        "split": DATA.train, "dataset": DATA, "data": DATA, "images": DATA.train.images, "labels": DATA.train.labels,
        "count": 5, "seed": 0, "batch_size": 4, "generator": torch.Generator(), "augment": True, "arch": "mlp",
        "num_classes": 3, "in_channels": 1, "width": 0.1, "channels": 3, "widths": (2, 3), "sizes": (2, 3),
        "model": tiny_network(), "stop": 1, "first": 0, "lr": 0.1,
    }  # fmt: skip


def listed(function):
    return lambda **given: list(function(**given))


def commands():
    """The options of each command, by its name."""
    (choices,) = (
        action.choices for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    return {
        name: [action for action in parser._actions if action.dest != "help"]
        for name, parser in choices.items()
    }


def sound_option(option):
    if option.nargs == 0:
        return None
    return FIRST.get(option.dest, next(iter(option.choices))) if option.choices else SOUND[option.dest]


def command(name, options):
    """One command, up to the work that it starts, with a word for each option; what it says is kept quiet."""

    def words(option, value):
        flag = option.option_strings[-1] if option.option_strings else None
        if flag is None:
            return ["--", str(value)]
        return [flag if value is None and option.nargs == 0 else f"{flag}={value}"]

    def call(**values):
        ordered = sorted(options, key=lambda option: not option.option_strings)  # after -- come places alone
        given = [word for option in ordered for word in words(option, values[option.dest])]
        first = given.index("--") if "--" in given else len(given)
        given = given[: first + 1] + [word for word in given[first:] if word != "--"]
        with (
            mock.patch.multiple(cli, load_dataset=lambda name: DATA, execute=swept, run_workers=lambda *_: 0),
            # No sweep uses every option that there is; what one does not use is a test of its own.
            mock.patch.object(
                cli,
                "plan_as_asked",
                lambda sweep, profile, **given: plan(sweep, get_profile(profile, **given)),
            ),
            mock.patch.object(check, "sweep", swept),
            mock.patch.object(cli, "committed_store", return_value=RECORDS),
            contextlib.chdir(FOLDER),  # for what a relative path names
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            try:
                status = cli.main([name, *given])
            except SystemExit as end:  # of argparse, which has said why
                status = end.code
        if status == 2:
            raise SettingError("said on standard error")
        if status:
            raise AssertionError(f"status {status}")

    return call, lambda: {option.dest: sound_option(option) for option in options}


def swept(*_, **__):
    return SweepReport([RECORD])


def notebook(path):
    """The cells of a notebook that take its parameters and check them; the one between only installs."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    taken, checked = ("".join(cell["source"]) for cell in (cells[0], cells[2]))
    defaults = {}
    exec(taken, defaults)
    del defaults["__builtins__"]

    empty = {"records": str(FOLDER / "none")} if "records" in defaults else {}

    def call(**values):
        # By None all the committed ones would be read.
        exec(checked, values | (empty if values.get("records") is None else {}))

    return call, lambda: {**defaults, "profile": "smoke", **empty}


def training(model, dataset, seed, stop, first, **settings):
    return train(
        model, dataset, dataclasses.replace(SETTINGS, epochs=1, **settings), seed=seed, stop=stop, first=first,
        progress=False,
    )  # fmt: skip


def record_file():
    return b'{"schema": 1, "kind": "x"}'


TARGETS = {
    **{
        name: with_defaults(thing, study_values)
        for face in (data, models)
        for name, thing in public(face).items()
    },
    **{
        f"data.{name}": (
            listed(getattr(data, name)), with_defaults(getattr(data, name), study_values)[1]
        )
        for name in ("batches", "evaluation_batches")
    },
    "data.calibration": with_defaults(data.calibration, study_values, images=lambda: 4),
    "data.load_dataset": (data.load_dataset, lambda: {"name": "imagefolder", "root": FOLDER}),
    "data.Dataset": (data.Dataset, lambda: vars(DATA)),
    "records.read_record": damaged(read_record, record_file),
    "arrays.read_arrays": damaged(read_arrays, lambda: b'\x20\0\0\0\0\0\0\0{"a": 1}' + b" " * 30),
    "profiles.get_profile": (
        get_profile, lambda: {"name": "smoke", **{field.name: None for field in dataclasses.fields(Profile)}}
    ),
    "plans.plan": (plan, lambda: {"sweep": "layerwise", "profile": get_profile("smoke")}),
    **{f"command.{name}": command(name, options) for name, options in commands().items()},
    **{f"notebook.{path.stem}": notebook(path) for path in NOTEBOOKS},
    "runs.TrainSettings": with_defaults(TrainSettings, epochs=lambda: 2),
    "runs.DenseRun": (DenseRun, lambda: vars(DENSE)),
    "runs.PruneRun": with_defaults(
        PruneRun,
        dense=lambda: DENSE, criterion=lambda: "l1", scope=lambda: "layerwise", finetune=lambda: SETTINGS,
    ),
    "training.train": with_defaults(training, study_values),
    "training.evaluate": with_defaults(evaluate, study_values),
    "starts.lsuv": with_defaults(lsuv, common),
    "starts.boundaries_through_data": with_defaults(boundaries_through_data, common),
}  # fmt: skip
