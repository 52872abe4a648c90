"""How many units touch the decision boundary of trained image networks (claim C3), as records.

The committed records are of the dense runs of ``small_cnn_profile("reference", "mnist")`` and of
``get_profile("reference", width=1 / 8)``, three slices for each seed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import pandas as pd
import torch

from splinelib.errors import RecordError
from splinelib.partition.trace import Trace, trace_boundary
from splinestudy.analysis.image_slices import image_slices, touching_rows
from splinestudy.runs.profiles import Profile, dense_runs, get_profile
from splinestudy.runs.records import Record, RecordStore, provenance
from splinestudy.runs.runs import DenseRun, load_run_data, trained_model

TINY = 0.1
"""Up to this share of units counts as the claim's "tiny fraction"; the abstract gives no number."""

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class BoundaryRun:
    """Trace the decision boundary of a trained network on triangles between test images.

    Attributes:
        dense: the run that trained the network.
        slices: number of triangles, drawn with the seed of ``dense``.
        grid: see :func:`splinelib.partition.trace_boundary`.
    """

    kind: ClassVar[str] = "boundary"
    dense: DenseRun
    slices: int
    grid: int = 48


def small_cnn_profile(profile: str, dataset: str) -> Profile:
    """The released code's SimpleCNN (two convolutional layers) at half width, briefly trained."""
    smoke = profile == "smoke"
    return get_profile(
        profile, arch="simple_cnn", width=0.5, dataset=dataset, images=512 if smoke else 8_000,
        epochs=2 if smoke else 3, lr=0.02, batch_size=64 if smoke else 128, precision="float32", canvas_side=8,
    )  # fmt: skip


def boundary_runs(profile: str, dataset: str, slices: int) -> list[BoundaryRun]:
    """The small network on ``dataset`` and the profile's own network and data, each for every seed.

    Below profile ``reference`` the grid is half as fine.
    """
    settings = [small_cnn_profile(profile, dataset), get_profile(profile)]
    grid = 24 if profile in ("smoke", "quick") else 48
    return [BoundaryRun(dense, slices, grid) for setting in settings for dense in dense_runs(setting)]


def traces(run: BoundaryRun, weights: RecordStore, only: int | None = None) -> list[Trace]:
    """The decision boundary on each slice, or on the first ``only``; ``weights`` is the store with the dense run."""
    data = load_run_data(run.dense, _CPU)
    model = trained_model(run.dense, data, weights, _CPU)
    return [
        trace_boundary(model, where, grid=run.grid)
        for where in image_slices(data, run.slices, run.dense.seed)[:only]
    ]


def boundary_record(run: BoundaryRun, weights: RecordStore, store: RecordStore, profile: str) -> Record:
    """The record of how many units touch: found in ``store``, or computed now and kept there.

    Raises:
        RecordError: ``weights`` holds no record of the dense run.
    """
    found = store.load(run)
    if found is not None:
        return found
    dense = weights.load(run.dense)
    if dense is None:
        raise RecordError(f"store {weights.root} has no record of {run.dense}: train it first, with sweep")
    started, clock = datetime.now(UTC), time.perf_counter()
    found_traces = traces(run, weights)
    results = {
        "accuracy": dense.results["epochs"][-1]["accuracy"],
        "segments": [len(trace.boundary.segments) for trace in found_traces],
        "regions": [trace.regions for trace in found_traces],
        "rows": [row for number, trace in enumerate(found_traces) for row in touching_rows(trace, number)],
    }
    times = [moment.isoformat(timespec="seconds") for moment in (started, datetime.now(UTC))]
    where = provenance(profile, _CPU, times[0], times[1], time.perf_counter() - clock)
    return store.save(run, results, where)


def boundary_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each network, seed, slice and layer (``all`` for the whole network)."""
    rows: list[dict[str, Any]] = []
    for record in records:
        dense = record.settings["dense"]
        name = f"{dense['arch']} ×{dense['width']:g}, {dense['dataset']}"
        regions = record.results["regions"]
        rows += [
            {"network": name, "seed": dense["seed"], "regions": regions[row["slice"]], **row}
            for row in record.results["rows"]
        ]
    return pd.DataFrame(rows)


def boundary_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds and slices for each whole network, in percent."""
    whole = table[table["layer"] == "all"].groupby("network", sort=False)
    shares = ["crossing", "touching", "touching_of_crossing", "channels_touching"]
    text = {
        name: [
            f"{100 * m:.1f} ± {100 * s:.1f}"
            for m, s in zip(whole[name].mean(), whole[name].std(ddof=1).fillna(0), strict=True)
        ]
        for name in shares
    }
    columns = {
        "units": whole["units"].first(),
        "slices": whole.size(),
        "regions met": whole["regions"].mean().round().astype(int),
    }
    return pd.DataFrame(columns).assign(**text).reset_index()


def touching_claim(table: pd.DataFrame, source: str) -> list[dict[str, str]]:
    """Claim C3 beside each network's numbers: it *holds* where at most :data:`TINY` of the units touch on average."""
    rows = []
    for name, group in table[table["layer"] == "all"].groupby("network", sort=False):
        mean, spread = 100 * group["touching"].mean(), 100 * group["touching"].std(ddof=1)
        found = f"{mean:.0f}" + (f" ± {spread:.0f}" if len(group) > 1 else "")
        verdict = "holds" if mean <= 100 * TINY else "does not hold"
        rows.append(
            {
                "claim": "C3",
                "paper": "a tiny fraction of the nodes contributes to the decision boundary",
                "records": f"{source}, {len(group)} slices",
                "ours": f"{name}: {found} % of {int(group['units'].iloc[0])} units touch it; {verdict}",
            }
        )
    return rows
