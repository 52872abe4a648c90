"""Draws the book's figure and tables on the exact partition's speed from ``benchmarks/results``; no arguments."""

import math
import re

import matplotlib.pyplot as plt

from benchmarks.kept import load
from benchmarks.page import machine_text, write_figure, write_text
from splinestudy import plots
from splinestudy.results.tables import markdown_table

CURVES = (
    ("cpu", "partition", "#0072B2", "o", "-"),
    ("gemm_seconds", "all units at all vertices, by GEMM", "#D55E00", "s", "--"),
    ("write_seconds", "writing the result's bytes", "#009E73", "^", ":"),
)


ASKED = {f"mlp {depth}×{width}": 1.0 for depth in (2, 3) for width in (64, 128, 256)} | {"mlp 16×64": 0.4}
"""Million regions a second, with topology and on two threads, that this project set itself as a mark."""


def mlps(rows):
    """Rows of fully connected networks with their depth and width."""
    found = [(re.fullmatch(r"mlp (\d+)×(\d+)", name), row) for name, row in rows.items()]
    return [{"depth": int(m[1]), "width": int(m[2]), **row} for m, row in found if m]


def draw_curves(axes, rows, key, label):
    """Seconds against ``key`` on log-log axes, with the two yardsticks."""
    rows = sorted(rows, key=lambda row: row[key])
    for value, name, colour, marker, line in CURVES:
        part = [row for row in rows if value in row]
        x, y = [row[key] for row in part], [row[value] for row in part]
        axes.loglog(x, y, ls=line if key != "regions" else "none", color=colour, marker=marker, label=name)
    axes.set_xlabel(label)
    axes.grid(visible=True, which="major")
    if key != "regions":
        axes.set_xticks([row[key] for row in rows], [str(row[key]) for row in rows])
        axes.minorticks_off()
    return axes


def draw(rows):
    plots.use_style()
    nets = mlps(rows)
    figure, axes = plt.subplots(2, 2, figsize=(9, 7.4), sharey=True)
    draw_curves(axes[0, 0], [row for row in nets if row["depth"] == 1], "width", "width, 1 hidden layer")
    draw_curves(axes[0, 1], [row for row in nets if row["depth"] == 3], "width", "width, 3 hidden layers")
    draw_curves(axes[1, 0], [row for row in nets if row["width"] == 64], "depth", "hidden layers of width 64")
    draw_curves(axes[1, 1], list(rows.values()), "regions", "regions, all networks")
    for left in axes[:, 0]:
        left.set_ylabel("seconds of CPU time")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def speed_table(rows):
    rates = ("million regions/s (wall)", "with topology", "the same, read before", "asked")
    numbers = ("regions", "wall s", "CPU s", *rates)
    lines = []
    for name, row in rows.items():
        cells = [name, f"{row['regions']:,}", f"{row['wall']:.3f}", f"{row['cpu']:.3f}"]
        cells.append(f"{row['regions'] / row['wall'] / 1e6:.2f}")
        for wall in ("wall", "again_wall"):
            seconds = row[wall] + row["topology_cpu"] if "topology_cpu" in row else None
            cells.append(f"{row['regions'] / seconds / 1e6:.2f}" if seconds else "not measured")
        lines.append([*cells, ASKED.get(name, "")])
    return markdown_table({"network": "---"} | dict.fromkeys(numbers, "--:"), lines)


def three_digits(value):
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"


def peer_table(peer):
    """Milliseconds of every program, ours in parts."""
    ours = {"ours": "cpu", "read before": "again", "topology": "topology"}
    numbers = ["regions", *ours, *peer["peers"]]
    lines = []
    for row in peer["rows"]:
        seconds = [row["ours"][key] for key in ours.values()]
        seconds += [row.get(name, {}).get("cpu") for name in peer["peers"]]
        cells = [three_digits(1e3 * value) if value else "" for value in seconds]
        lines.append([row["network"], f"{row['ours']['counts']['regions']:,}", *cells])
    return markdown_table({"network": "---"} | dict.fromkeys(numbers, "--:"), lines)


def verdict(peer, name):
    """Whether a peer finds what ours does, and how many times as long it takes for it."""
    ratios, other = {}, []
    asked = [row for row in peer["rows"] if name in row]
    rows = [row for row in asked if "counts" in row[name]]
    for row in rows:
        counts, ours = row[name]["counts"], row["ours"]
        seconds = ours["cpu"] + (ours["topology"] if "vertices" in counts else 0)
        ratios[row["network"]] = row[name]["cpu"] / seconds
        if wrong := {key: value for key, value in counts.items() if value != ours["counts"][key]}:
            other.append(f"{row['network']}: {wrong} for {ours['counts']}")
    what = ", ".join(rows[0][name]["counts"])
    text = (
        f"* {name} ({peer['peers'][name]}): {what} agree in {len(rows) - len(other)} of {len(rows)} networks"
    )
    text += f" ({'; '.join(other)})" if other else ""
    low, high = (three_digits(end(ratios.values())) for end in (min, max))
    text += f"; it takes {low} to {high} times as long as ours"
    faster = [network for network, ratio in ratios.items() if ratio < 1]
    text += f", less on {', '.join(faster)}" if faster else ""
    ends = [f"; on {row['network']} it stops: {row[name]['error']}" for row in asked if "error" in row[name]]
    return text + "".join(ends) + "."


def peer_text(peer):
    versions = [verdict(peer, name) for name in peer["peers"]]
    return [machine_text(peer["machine"]), "", *versions, "", *peer_table(peer)]


def facts(result):
    """What was measured on what."""
    text, cold = machine_text(result["machine"]), result.get("cold_start_seconds")
    if cold:
        text += f" Cold start, in CPU time: {cold['import']:.1f} s to import, {cold['compile_cold']:.0f} s to compile "
        text += f"with an empty cache, {cold['compile_cached']:.1f} s with a full one."
    if "memory" in result:
        text += f" Memory: {result['memory']['regions']:,} regions of the convolutional network took at most "
        gigabytes = result["memory"]["peak_mb"] * 2**20 / 1e9  # measured in MiB
        text += f"{gigabytes:.2f} GB, Python and PyTorch included."
    return text


def main():
    result, peer = load("partition.json"), load("partition_peer.json")
    write_figure(draw(result["rows"]), "partition_speed.svg")
    write_text([facts(result), "", *speed_table(result["rows"])], "partition_speed.txt")
    write_text(peer_text(peer), "partition_peer.txt")


if __name__ == "__main__":
    main()
