"""Draws the book's figures and tables on what detection costs and what pruning gains in time; no arguments.

They come from ``benchmarks/results``. Where a benchmark was not run, its text names the command and no figure is left.
"""

import statistics

import matplotlib.pyplot as plt

from benchmarks.kept import load
from benchmarks.page import LOOKS, STATIC, machine_text, write_figure, write_text
from splinestudy import plots
from splinestudy.results.names import three_figures
from splinestudy.results.tables import markdown_table

NAMES = {
    "simple_cnn": "SimpleCNN",
    "vgg16_bn": "VGG-16",
    "resnet50": "ResNet-50",
    "preresnet20": "PreResNet-20",
    "preresnet101": "PreResNet-101",
    "mobilenet_v2": "MobileNetV2",
}
PASSES = {"step": "training step", "inference": "inference pass"}
KINDS = ("wall", "cpu")
MB = 10**6
STEP_CAPTION = (
    "How many times faster a pruned network is than the dense one, against how many times fewer FLOPs it has. "
    "On the dashed line time falls as FLOPs do; below the dotted line the pruned network is the slower one. "
    "The points of a line are the shares of removed units."
)
STEP_ALT = (
    "Log-log plots of the ratio of times against the ratio of FLOPs, one for each kind of pass and arithmetic, \
with a line for each network."
)
DETECTION_CAPTION = (
    "Left: CPU time of one look at the canvas, and of comparing two epochs. Right: memory kept for each epoch. "
    "*Float outputs* are the authors' way: all batch norms' outputs, as float32."
)
DETECTION_ALT = (
    "Two dot plots on logarithmic axes with a marker for each network: CPU seconds of forward pass, codes, \
float outputs and comparisons, and megabytes kept for an epoch."
)


def figure_lines(name, alt, caption):
    """A figure of the page, which finds it beside itself in ``_static``."""
    label = f"fig-{name.replace('_', '-')}"
    return [f"```{{figure}} _static/{name}.svg", f":name: {label}", f":alt: {alt}", "", caption, "```"]


def draw_dots(axes, rows, quantities, label):
    """``quantities`` maps a line of the plot to a function of a row, which gives None where nothing was measured."""
    for (arch, row), (colour, marker) in zip(rows.items(), LOOKS, strict=False):
        points = [(value(row), name) for name, value in quantities.items() if value(row) is not None]
        x, y = zip(*points, strict=True)
        axes.plot(x, y, ls="none", color=colour, marker=marker, label=NAMES[arch])
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.margins(x=0.08, y=0.12)
    axes.invert_yaxis()
    return axes


def draw_detection(result):
    plots.use_style()
    earlier = result["settings"]["epochs"] - 1
    seconds = {
        "forward pass": lambda row: row["forward_cpu"],
        "forward pass, codes": lambda row: row["codes_cpu"],
        "forward pass, float outputs": lambda row: row.get("floats_cpu"),
        "comparing two epochs' codes": lambda row: row["distances_cpu"] / earlier,
        "comparing two epochs' float outputs": lambda row: row.get("one_float_distance_cpu"),
    }
    kept = {
        "codes": lambda row: row["code_bytes"] / MB,
        "float outputs": lambda row: row["float_bytes"] / MB,
    }
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), width_ratios=(3, 2))
    draw_dots(axes[0], result["rows"], seconds, "seconds of CPU time")
    draw_dots(axes[1], result["rows"], kept, "MB for each epoch")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def both_times(row, prefix, scale=1):
    """Wall time and, in parentheses, CPU time."""
    if f"{prefix}_wall" not in row:
        return "not measured"
    wall, cpu = (scale * row[f"{prefix}_{kind}"] for kind in KINDS)
    return f"{three_figures(wall)} ({three_figures(cpu)})"


def megabytes(row, key, factor=1.0):
    return f"{row[key] * factor / MB:,.0f}" if key in row else "not measured"


def detection_table(result):
    epochs, mebi = result["settings"]["epochs"], 2**20
    lines = {
        "layers with a code": lambda row: str(row["layers"]),
        "forward pass of the canvas, s": lambda row: both_times(row, "forward"),
        "the same with codes, s": lambda row: both_times(row, "codes"),
        "the same with float outputs, s": lambda row: both_times(row, "floats"),
        f"codes compared with {epochs - 1} earlier epochs, s": lambda row: both_times(row, "distances"),
        f"codes of {epochs} epochs compared, every two, s": lambda row: both_times(row, "matrix"),
        "float outputs of two epochs compared, s": lambda row: both_times(row, "one_float_distance"),
        "detection beyond the forward pass": lambda row: both_shares(row),
        "codes of one epoch, MB": lambda row: f"{row['code_bytes'] / MB:.2f}",
        "float outputs of one epoch, MB": lambda row: megabytes(row, "float_bytes"),
        f"codes of {epochs} epochs, MB": lambda row: megabytes(row, "code_bytes", epochs),
        f"float outputs of {epochs} epochs, MB": lambda row: megabytes(row, "float_bytes", epochs),
        "peak memory, nothing kept, MB": lambda row: megabytes(row, "forward_peak_mb", mebi),
        f"peak memory, {epochs} epochs of codes, MB": lambda row: megabytes(row, "codes_peak_mb", mebi),
    }
    rows = result["rows"]
    columns = {"wall time (CPU time)": "---"} | {NAMES[arch]: "--:" for arch in rows}
    return markdown_table(columns, [[name, *map(cell, rows.values())] for name, cell in lines.items()])


def both_shares(row):
    return "{}% ({}%)".format(*(round(100 * row[f"overhead_{kind}"]) for kind in KINDS))


def detection_lines(result):
    settings = result["settings"]
    points = next(iter(result["rows"].values()))["points"]
    text = f"{machine_text(result['machine'])} Canvas of {points:,} points, networks of width {settings['width']:g}, "
    text += f"untrained. Least times of {settings['rounds']} rounds. One MB is a million bytes."
    return [text, "", *detection_table(result)]


def network_name(row):
    return NAMES[row["arch"]] + ("" if row["width"] == 1 else f", width {row['width']:g}")


def panels(rows):
    """(pass, device, precision) -> its rows."""
    found = {}
    for row in rows:
        found.setdefault((row["pass"], row["device"], row["precision"]), []).append(row)
    return dict(sorted(found.items(), key=lambda item: (item[0][1], list(PASSES).index(item[0][0]))))


def draw_gain(axes, rows):
    """Ratio of times against ratio of FLOPs, one line for each network."""
    names = list(dict.fromkeys(map(network_name, rows)))
    for number, name in enumerate(names):
        colour, marker = LOOKS[number % len(LOOKS)]
        part = sorted((row["flops_ratio"], row["time_ratio"]) for row in rows if network_name(row) == name)
        axes.loglog(*zip(*part, strict=True), color=colour, marker=marker, label=name)
    limit = max(row["flops_ratio"] for row in rows)
    axes.loglog([1, limit], [1, limit], color="#666666", ls="--", label="as FLOPs")
    axes.axhline(1, color="#666666", ls=":", label="no gain")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(plt.LogLocator(base=2, subs=(1,)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(plt.NullLocator())
    return axes


def draw_step_time(result):
    plots.use_style()
    found = panels(result["rows"])
    lines = -(-len(found) // 2)
    figure, axes = plt.subplots(
        lines, 2, figsize=(9, 3.4 * lines + 0.6), sharex=True, sharey=True, squeeze=False
    )
    for (key, rows), place in zip(found.items(), axes.flat, strict=False):
        draw_gain(place, rows).set_title(panel_name(key))
    for place in axes[:, 0]:
        place.set_ylabel("time, dense / pruned")
    for place in axes[-1]:
        place.set_xlabel("FLOPs, dense / pruned")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def panel_name(key):
    name, device, precision = key
    return f"{PASSES[name]}, {precision}" + ("" if device == "cpu" else f", {device}")


def gain_table(rows):
    numbers = ("ratio", "dense, ms", "pruned, ms", "FLOPs ratio", "time ratio", "realised share")
    lines = []
    for row in rows:
        times = [
            both_times({f"t_{k}": row[f"{k}_{which}"] for k in KINDS}, "t", 1000)
            for which in ("dense", "pruned")
        ]
        ratios = [f"{row[key]:.2f}" for key in ("flops_ratio", "time_ratio", "realised_share")]
        lines.append([network_name(row), f"{row['ratio']:g}", *times, *ratios])
    return markdown_table({"network": "---"} | dict.fromkeys(numbers, "--:"), lines)


def step_time_lines(result):
    settings = result["settings"]
    text = f"{machine_text(result['machine'])} Batches of {settings['batch']} images of 32 × 32. Least times of at "
    text += f"least {min(row['rounds'] for row in result['rows'])} rounds: wall time (CPU time)."
    lines = [text]
    for key, rows in panels(result["rows"]).items():
        shares = [row["realised_share"] for row in rows]
        verdict = f"realised share from {min(shares):.2f} to {max(shares):.2f}, median {statistics.median(shares):.2f}."
        lines += ["", f"**{panel_name(key).capitalize()}**: {verdict}", "", *gain_table(rows)]
    return lines


def throughput_lines(result):
    rates = result["rates"]
    text = f"{machine_text(result['machine'])} Best rates in bfloat16: "
    text += ", ".join(f"{name.replace('_', ' ')} {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items())
    numbers = ("ratio", "images a second", "GFLOP/s", "of the best rate", "augmentation, of a step")
    rows = [
        [
            network_name(row),
            f"{row['ratio']:g}",
            f"{row['images']:,.0f}",
            f"{row['operations'] / 1e9:.0f}",
            f"{100 * row['share']:.0f} %",
            f"{100 * row['augmentation']:.1f} %",
        ]
        for row in result["rows"]
    ]
    return [f"{text}.", "", *markdown_table({"network": "---"} | dict.fromkeys(numbers, "--:"), rows)]


def write(name, draw, describe, alt, caption):
    """Figure and text of one benchmark, or a text that says that it was not run."""
    result = load(f"{name}.json")
    picture = f"{name}.svg"
    if result is None:
        (STATIC / picture).unlink(missing_ok=True)
        write_text([f"Not measured yet: `python -m benchmarks.{name}` does so."], f"{name}.txt")
    else:
        write_figure(draw(result), picture)
        write_text([*figure_lines(name, alt, caption), "", *describe(result)], f"{name}.txt")


def main():
    write("detection", draw_detection, detection_lines, DETECTION_ALT, DETECTION_CAPTION)
    write("step_time", draw_step_time, step_time_lines, STEP_ALT, STEP_CAPTION)
    result = load("throughput.json")
    missing = ["Not measured yet: `python -m benchmarks.throughput` does so."]
    write_text(throughput_lines(result) if result else missing, "throughput.txt")


if __name__ == "__main__":
    main()
