"""The page on what the paper's whole grid would cost, in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from splinestudy.results.grid import COMPARED, GRID, RATIOS, SEEDS, Cell, Device, jobs, makespan
from splinestudy.results.grid_devices import core, drawn_share, gpu
from splinestudy.results.names import arch_name, data_name, three_figures
from splinestudy.results.tables import markdown_table
from splinestudy.runs.methods import METHODS
from splinestudy.runs.store import RecordStore

COUNTS = (1, 8, 64)
"""Numbers of devices that the time until all is done is given for."""


class _Case(NamedTuple):
    """A column: a device, and the share of dense training at which early birds are drawn, or None without them."""

    device: Device
    drawn: float | None

    @property
    def name(self) -> str:
        return f"{self.device.name}, {'early birds' if self.drawn else 'trained out'}"

    def seconds(self, cells: Iterable[Cell], devices: int) -> float:
        """Until so many devices have computed these cells, all seeds of them."""
        return makespan(
            [jobs(cell, self.device, self.drawn) for cell in cells for _ in range(SEEDS)], devices
        )


def grid_report(
    store: RecordStore, steps: Sequence[Mapping[str, Any]], batch: int, large: Mapping[str, float]
) -> str:
    """The page's sentences and tables; arguments as of :func:`splinestudy.results.grid_devices.core`."""
    dense = store.load_all("dense")
    drawn = drawn_share(dense)
    devices = (core(dense, steps, batch, large), gpu(dense, steps))
    cases = [_Case(device, early) for device in devices for early in (None, drawn)]
    hours = {cell: [case.seconds([cell], 1) / 3600 for case in cases] for cell in GRID}
    totals = [sum(column) for column in zip(*hours.values(), strict=True)]
    names = [case.name for case in cases]
    lines = [
        _summary(cases[0].device, drawn, totals),
        "",
        "Hours of one device:",
        "",
        *_table(["network", "data", *names], [*_rows(hours), ["all", "", *map(three_figures, totals)]]),
        "",
        "Time until all is done, on so many devices:",
        "",
        *_table(
            ["devices", *names],
            [[str(count), *(_span(case.seconds(GRID, count)) for case in cases)] for count in COUNTS],
        ),
    ]
    return "\n".join(lines) + "\n"


def _summary(core: Device, drawn: float, totals: Sequence[float]) -> str:
    """What the grid consists of, and what of the ``totals`` of the columns, in hours, goes where."""
    runs = len(GRID) * SEEDS * (1 + len(COMPARED) * len(RATIOS))
    labels = ", ".join(METHODS[name].label for name in COMPARED)
    dense_share = sum(SEEDS * jobs(cell, core, None)[0] for cell in GRID) / 3600 / totals[0]
    return (
        f"{len(GRID)} pairs of network and data, {len(COMPARED)} methods ({labels}), {len(RATIOS)} ratios and "
        f"{SEEDS} seeds make {runs:,} runs. With early birds the dense networks are trained for {drawn:.1%} of their "
        "schedule, the median of the committed records with the paper's schedule. Early birds save "
        f"{1 - totals[1] / totals[0]:.0%} of the core-hours. Dense networks take {dense_share:.0%} of them: each is "
        f"pruned in {len(COMPARED) * len(RATIOS)} ways, and every pruned network is trained."
    )


def _rows(hours: Mapping[Cell, Sequence[float]]) -> list[list[str]]:
    return [
        [
            arch_name(cell.arch, 1).removesuffix(" ×1"),
            data_name(cell.dataset),
            *map(three_figures, hours[cell]),
        ]
        for cell in hours
    ]


def _span(seconds: float) -> str:
    days = seconds / 86_400
    if days > 730:
        return f"{days / 365.25:,.1f} years"
    return f"{days:,.0f} days" if days >= 3 else f"{24 * days:.0f} hours"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return markdown_table({name: "--:" if place else "---" for place, name in enumerate(head)}, rows)
