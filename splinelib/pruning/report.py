"""What pruning has made of a network: widths, parameters, operations and, on request, time; printed as a table."""

from dataclasses import dataclass

from torch import nn

from splinelib.checks import check_fields, checked
from splinelib.errors import SettingError
from splinelib.hooks import Inputs
from splinelib.pruning.cut import REPORT, cut_of, held_cut, is_cut
from splinelib.pruning.flops import cost
from splinelib.pruning.latency import measure_latency


@dataclass(frozen=True)
class Report:
    """A network before and after pruning, each as a pair; ``print`` shows a table.

    Attributes:
        units: of each layer that could be pruned, by its name.
        parameters: numbers in parameters.
        flops: operations of a forward pass of one input.
        latency: least seconds of a forward pass of the example inputs; None where that was not asked for.
    """

    units: dict[str, tuple[int, int]]
    parameters: tuple[int, int]
    flops: tuple[int, int]
    latency: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def __str__(self) -> str:
        """The table."""
        counts = [*self.units.items(), ("parameters", self.parameters), ("FLOPs", self.flops)]
        rows = [(name, f"{one:,}", f"{other:,}", f"{other / one:.0%}") for name, (one, other) in counts]
        if self.latency:
            one, other = self.latency
            rows.append(("latency, ms", f"{1000 * one:.2f}", f"{1000 * other:.2f}", f"{other / one:.0%}"))
        rows = [("units of", "before", "after", "left"), *rows]
        first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
        return "\n".join(
            f"{name:{first}}" + "".join(f"  {text:>{wide}}" for text, wide in zip(texts, others, strict=True))
            for name, *texts in rows
        )


@checked
def report(dense: nn.Module, pruned: nn.Module, example_inputs: Inputs, latency: bool = False) -> Report:
    """What is left of a network.

    Args:
        dense: the network before.
        pruned: what :func:`splinelib.prune`, or another removal of units, has made of it.
        example_inputs: a batch [N, ...], a tuple of arguments or a dict of keywords.
        latency: whether to measure time (:func:`splinelib.pruning.measure_latency`).

    Raises :class:`SettingError` where nothing was cut, or a network does not take the inputs.

    >>> model, images = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(1, 2)
    >>> print(report(model, splinelib.prune(model, images, ratio=0.5), images))
    units of    before  after  left
    0                4      2   50%
    parameters      22     12   55%
    FLOPs           32     16   50%
    """
    cut = held_cut(pruned)
    gone = held_cut(dense).selection if is_cut(dense) else {}
    units = {
        name: (count - len(gone.get(name, [])), count - len(cut.selection.get(name, [])))
        for name, count in cut.units.items()
    }
    before, after = cost(dense, example_inputs), cost(pruned, example_inputs)
    one, other = measure_latency([dense, pruned], example_inputs) if latency else (0.0, 0.0)
    return Report(
        units,
        (before.parameters, after.parameters),
        (before.flops, after.flops),
        (one, other) if latency else None,
    )


@checked
def report_of(pruned: nn.Module) -> Report:
    """The report that comes with what :func:`splinelib.prune` gives, and with what was loaded of it.

    Raises :class:`SettingError` for another network: :func:`report` tells of any two.

    >>> model, images = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(1, 2)
    >>> report_of(splinelib.prune(model, images, ratio=0.5)).units
    {'0': (4, 2)}
    """
    cut_of(pruned)
    if not has_report(pruned):
        raise SettingError(
            f"no report comes with this {type(pruned).__name__}: call report with the network before as well"
        )
    return getattr(pruned, REPORT)


def has_report(pruned: nn.Module) -> bool:
    """Whether the network carries a report."""
    return hasattr(pruned, REPORT)


def attach(pruned: nn.Module, found: Report) -> nn.Module:
    """``pruned``, which from now on carries a report."""
    setattr(pruned, REPORT, found)
    return pruned
