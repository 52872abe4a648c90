"""What the modules that draw the book's page on speed share."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

STATIC = Path(__file__).resolve().parents[1] / "book" / "_static"
LOOKS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#56B4E9", "v"))
"""Colours and markers, told apart without colour as well."""


def write_figure(figure, name):
    figure.savefig(STATIC / name, metadata={"Date": None})


def write_text(lines, name):
    (STATIC / name).write_text("\n".join(lines) + "\n")


def machine_text(machine):
    """What was measured on what."""
    where = f", {machine['device']}" if machine.get("device", "cpu") != "cpu" else ""
    text = f"Machine: {machine['processor']}{where}, {machine['cores']} cores, {machine['threads']} threads, load "
    text += f"{machine['load'][0]:.1f} at the end; PyTorch {machine['torch'].split('+')[0]}, "
    return text + f"Python {machine['python']}."
