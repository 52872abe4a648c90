"""Writes the book's tables on networks that were pruned for speed, from ``benchmarks/results``; no arguments."""

from benchmarks.cost_page import NAMES, PASSES
from benchmarks.kept import load
from benchmarks.page import machine_text, write_text
from splinestudy.results.tables import markdown_table

BARS = {"vgg16_bn": 0.8, "resnet50": 0.8, "preresnet20": 0.5, "mobilenet_v2": 0.5}
"""Realised shares that were asked for."""
KEYS = ("arch", "mode", "precision", "pass", "ratio")


def pairs(rows):
    """Rows of ours, each with Torch-Pruning's of the same case."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in KEYS), {})[row["way"]] = row
    cases = [(case["splinelib"], case["Torch-Pruning"]) for case in found.values()]
    return sorted(
        cases,
        key=lambda case: (list(BARS).index(case[0]["arch"]), case[0]["mode"] != "eager", case[0]["ratio"]),
    )


def kind(row):
    return f"{PASSES[row['pass']]}, {row['precision']}" + (
        "" if row["mode"] == "eager" else f", {row['mode']}"
    )


def short(row):
    """Whether less is realised than was asked for."""
    return row["realised_share"] < BARS[row["arch"]]


def gain_table(rows):
    lines = [
        [
            NAMES[ours["arch"]], kind(ours), f"{ours['ratio']:g}",
            *(f"{1000 * ours[f'seconds_{which}']:.1f}" for which in ("dense", "pruned")),
            *(f"{ours[key]:.2f}" for key in ("flops_ratio", "time_ratio", "realised_share")),
            f"{peer['time_ratio']:.2f} of {peer['flops_ratio']:.2f}",
        ]
        for ours, peer in pairs(rows)
    ]  # fmt: skip
    columns = (
        "ratio",
        "dense, ms",
        "pruned, ms",
        "FLOPs ratio",
        "time ratio",
        "realised share",
        "Torch-Pruning",
    )
    return markdown_table({"network": "---", "pass": "---"} | dict.fromkeys(columns, "--:"), lines)


def by_operator(kernels):
    """Milliseconds by what people call the operators; compiled graphs, which are named by a hash, as one."""
    found = {}
    for name, time in kernels.items():
        short_name = "compiled graph" if "CompiledFxGraph" in name else name.removeprefix("aten::")
        found[short_name] = found.get(short_name, 0) + time
    return found


def kernel_table(rows):
    """For each row how the operators that take longest in the dense network fare in the pruned one."""
    lines = []
    for row in rows:
        dense, pruned = (by_operator(row["kernels"][which]) for which in ("dense", "splinelib"))
        times = [
            f"{name} {dense.get(name, 0):.1f} → {pruned.get(name, 0):.1f}"
            for name in dict.fromkeys([*dense, *pruned])
            if max(dense.get(name, 0), pruned.get(name, 0)) >= 0.05 * 1000 * row["seconds_dense"]
        ]
        lines.append(
            [
                NAMES[row["arch"]],
                kind(row),
                f"{row['ratio']:g}",
                f"{row['flops_ratio']:.2f}",
                "; ".join(times),
            ]
        )
    return markdown_table(dict.fromkeys(("network", "pass", "ratio", "FLOPs ratio", "ms"), "---"), lines)


def lines_of(result):
    rows = [ours for ours, _ in pairs(result["rows"])]
    slower, missed = [row for row in rows if row["time_ratio"] < 1], [row for row in rows if short(row)]
    sizes = {NAMES[row["arch"]]: f"{row['batch']} of {row['side']} × {row['side']}" for row in rows}
    text = f"{machine_text(result['machine'])} Batches: {', '.join(f'{name} {size}' for name, size in sizes.items())}. "
    text += f"Of {len(rows)} pruned networks {len(slower) or 'none'} {'is' if len(slower) < 2 else 'are'} slower than "
    text += f"dense, and {len(rows) - len(missed)} realise what was asked for: "
    text += ", ".join(f"{NAMES[arch]} {bar:g}" for arch, bar in BARS.items()) + "."
    lines = [text, "", *gain_table(result["rows"])]
    if missed:
        told = "Where less is realised, the operators that take longest, dense → pruned, by wall time in PyTorch's "
        told += "profiler, which what else runs on the machine prolongs:"
        lines += ["", told, "", *kernel_table(missed)]
    return lines


def main():
    result = load("speedup.json")
    missing = ["Not measured yet: `python -m benchmarks.speedup` does so."]
    write_text(missing if result is None else lines_of(result), "speedup.txt")


if __name__ == "__main__":
    main()
