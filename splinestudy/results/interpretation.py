"""Tables of reading records, and claims C3 and C8 beside them, in words made from their numbers alone."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from splinestudy.analysis.class_separation import rank_correlation, rank_within
from splinestudy.results.boundary import touching_word
from splinestudy.results.marks import Word, mean_row
from splinestudy.results.names import network_name, profile_of, signed
from splinestudy.runs.records import Record

EFFECTS = {"regions": "regions", "length": "boundary length"}
"""What a choice of units takes from the partition, by the name of its column."""

STRONG = 0.3
"""A rank correlation whose whole interval lies above this counts as an explanation."""

_HOLDS: dict[Word, str] = {"supported": "*holds*", "contradicted": "*fails*", "undecided": "*open*"}


def rows_table(records: Sequence[Record], name: str) -> pd.DataFrame:
    """The rows ``name`` of all records as one table, with the seed of the network as the first column."""
    parts = [
        pd.DataFrame(record.results[name]).assign(seed=record.settings["dense"]["seed"]) for record in records
    ]
    table = pd.concat(parts, ignore_index=True)
    return table[["seed", *[column for column in table if column != "seed"]]]


def correlation_table(channels: pd.DataFrame, resamples: int = 1000) -> pd.DataFrame:
    """Rank correlation of scale and class separation: rows for every network, layer and measure.

    Args:
        channels: columns seed, layer, scale, separation, standardised.
        resamples: of the bootstrap behind each interval.

    Returns:
        Columns seed, layer (``all`` pools the ranks within layers), measure, n, rho, low, high.
    """
    rows = []
    for seed, network in channels.groupby("seed"):
        layers = network["layer"].to_numpy()
        ranked = {name: rank_within(network[name].to_numpy(), layers) for name in ("scale", *_MEASURES)}
        for measure in _MEASURES:
            parts = [
                (name, part["scale"], part[measure]) for name, part in network.groupby("layer", sort=False)
            ]
            parts.append(("all", pd.Series(ranked["scale"]), pd.Series(ranked[measure])))
            for layer, first, second in parts:
                rho, low, high = rank_correlation(first.to_numpy(), second.to_numpy(), resamples=resamples)
                row = {"seed": seed, "layer": layer, "measure": measure, "n": len(first)}
                rows.append({**row, "rho": rho, "low": low, "high": high})
    return pd.DataFrame(rows)


_MEASURES = ("separation", "standardised")
_KNOWN: dict[tuple[str, ...], pd.DataFrame] = {}


def correlations_of(records: Sequence[Record]) -> pd.DataFrame:
    """:func:`correlation_table` of committed records, whose keys name their content; several pages ask for the same."""
    keys = tuple(record.key for record in records)
    if keys not in _KNOWN:
        _KNOWN[keys] = correlation_table(rows_table(records, "channels"))
    return _KNOWN[keys]


def mean_overlap(records: Sequence[Record], ratio: float) -> pd.DataFrame:
    """Jaccard matrix of the criteria at one ratio, mean over networks."""
    found = [entry for record in records for entry in record.results["overlap"] if entry["ratio"] == ratio]
    names = found[0]["criteria"]
    return pd.DataFrame(np.mean([entry["jaccard"] for entry in found], axis=0), names, names)


def touching_claim(records: Sequence[Record]) -> dict[str, str]:
    """Claim C3 beside what the records show."""
    sampled, windows = rows_table(records, "touching"), rows_table(records, "windows")
    units = _weighted(sampled, "units_touching", "units")
    positions = _weighted(sampled, "positions_touching", "positions")
    inside = windows[windows["layer"] == "all"]
    crossing, touching = inside["crossing"].mean(), inside["touching"].mean()
    return {
        "claim": "C3",
        "records": describe_reading(records),
        "ours": (
            f"{_HOLDS[touching_word(units)]} for channels: {units:.1%} touch in the whole input space "
            f"({positions:.1%} of all single positions); of the single positions {crossing:.2%} cross one small "
            f"window, and {touching / max(crossing, 1e-12):.0%} of those touch there"
        ),
    }


def _weighted(table: pd.DataFrame, value: str, weight: str) -> float:
    return float(np.average(table[value], weights=table[weight]))


def removal_words(records: Sequence[Record]) -> str:
    """What masking the units that touch least often does, against as many at random: mean and range, ratio by ratio."""
    table = rows_table(records, "removal")
    parts = []
    for ratio, group in removal_gaps(table).groupby("ratio"):
        ends = f" ({signed(group.min())} to {signed(group.max())})" if len(group) > 1 else ""
        parts.append(f"at ratio {ratio:g} {signed(group.mean())} points{ends}")
    never = table.loc[table["choice"] == "never touching", "units"].mean()
    return f"units that never touch: {never:.1f} a network; least touching minus random: {', '.join(parts)}"


def removal_gaps(table: pd.DataFrame) -> pd.Series:
    """Points by which networks end higher without their least touching units than without random ones.

    ``table`` holds the rows ``removal`` (:func:`rows_table`); the result has a value for each ratio above 0 and seed.
    """
    means = table[table["ratio"] > 0].groupby(["ratio", "seed", "choice"])["accuracy"].mean().unstack()
    return 100 * (means["least touching"] - means["random"])


def separation_claim(correlations: pd.DataFrame, records: Sequence[Record]) -> dict[str, str]:
    """Claim C8's example beside the rank correlations, pooled over the layers of each network."""
    pooled = correlations[correlations["layer"] == "all"]
    words = []
    for measure, label in zip(_MEASURES, ("as released", "with the scale divided out"), strict=True):
        part = pooled[pooled["measure"] == measure]
        each = ", ".join(
            f"{signed(row.rho, 2)} [{signed(row.low, 2)}, {signed(row.high, 2)}]" for row in part.itertuples()
        )
        words.append(f"{_HOLDS[separation_word(part)]} {label}: rank correlation {each}")
    return {
        "claim": "C8",
        "records": describe_reading(records),
        "ours": "; ".join(words) + f"; in the last layer alone, as released: {_last_layer(correlations)}",
    }


def _last_layer(correlations: pd.DataFrame) -> str:
    names = [name for name in dict.fromkeys(correlations["layer"]) if name != "all"]
    part = correlations[(correlations["layer"] == names[-1]) & (correlations["measure"] == _MEASURES[0])]
    each = ", ".join(
        f"{signed(row.rho, 2)} [{signed(row.low, 2)}, {signed(row.high, 2)}]" for row in part.itertuples()
    )
    return f"{_HOLDS[separation_word(part)]}, {each}"


def separation_word(part: pd.DataFrame) -> Word:
    """Claim C8, by the intervals of all networks: on which side of :data:`STRONG` they lie, if all on one."""
    if (part["low"] > STRONG).all():
        return "supported"
    return "contradicted" if (part["high"] < STRONG).all() else "undecided"


def effect_correlations(effects: pd.DataFrame, value: str) -> list[float]:
    """Rank correlation of a slice effect (``regions`` or ``length`` gone) with accuracy: one for each network.

    Ranks are taken within each ratio, since both grow with it. The choices of one network share its weights, so it is
    the networks that vary, and an interval is one over them.
    """
    found = []
    for _, network in effects.groupby("seed"):
        ratios = network["ratio"].to_numpy()
        first, second = (rank_within(network[name].to_numpy(), ratios) for name in (value, "accuracy"))
        found.append(float(stats.spearmanr(first, second).statistic))
    return found


def effects_row(records: Sequence[Record], value: str) -> tuple[str, float, float, float]:
    """The mean of :func:`effect_correlations` over the networks that were read, with its interval."""
    return mean_row("mean over networks", effect_correlations(rows_table(records, "effects"), value))


def effects_word(low: float, high: float) -> Word:
    """Whether the partition tells the accuracy that is left: *supported* where the whole interval lies below 0.

    >>> effects_word(-0.5, -0.1), effects_word(-0.5, 0.1)
    ('supported', 'undecided')
    """
    return "supported" if high < 0 else "contradicted" if low > 0 else "undecided"


def effects_claim(records: Sequence[Record]) -> dict[str, str]:
    """Claim C2's second half beside the rank correlations of what is gone with the accuracy that is left."""
    words = []
    for value, label in EFFECTS.items():
        _, mean, low, high = effects_row(records, value)
        interval = f"{signed(mean, 2)} [{signed(low, 2)}, {signed(high, 2)}]"
        words.append(f"*{effects_word(low, high)}* for {label}: {interval}")
    found = f"rank correlation with accuracy before retraining, mean over networks, {'; '.join(words)}"
    return {"claim": "C2", "records": describe_reading(records), "ours": found}


def network_read(record: Record) -> str:
    """The network and data behind a reading, and whether it was trained with a penalty on its batch-norm scales."""
    penalised = record.settings["dense"]["train"]["norm_l1"] > 0
    return f"{network_name(record)}{', penalty on scales' if penalised else ''}"


def describe_reading(records: Sequence[Record]) -> str:
    """Profile, data, network and number of networks."""
    count, profile = len(records), profile_of(records[0])
    return f"profile {profile}: {network_read(records[0])}, {count} network{'s' if count > 1 else ''}"
