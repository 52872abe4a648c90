"""How tables look on a page."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from splinestudy.results.ways import Way

_SPREADS = {"_std": "std", "_se": "standard error"}
_DECIMALS = dict.fromkeys(("epoch", "regions", "units"), 1)  # counts, so one decimal of their mean says all


def styled(table: pd.DataFrame, precision: int = 3) -> Styler:
    """``table`` as it stands in the book: numbers with that many decimals, *yes* and *no*, a dash where there is none.

    What belongs together shares a column: ``x_mean`` or ``x`` with ``x_std`` or ``x_se`` as *mean ± spread*, and
    ``low`` and ``high`` as the interval behind ``difference``. A :class:`.Way` is called as in figures, and its column
    *method*. The index is not shown.
    """
    shown = pd.DataFrame(index=range(len(table)))
    interval = {"difference", "low", "high"} <= set(table)
    for name in table:
        if name.endswith(tuple(_SPREADS)) or (interval and name in ("low", "high")):
            continue  # shown with its mean
        base = name.removesuffix("_mean")
        number = _numbers(_DECIMALS.get(base, precision))
        title = "method" if name == "way" else base.replace("_", " ")
        text = _texts(table[name], _plain if name == "ratio" else number)
        for suffix, spread in _SPREADS.items():
            if base + suffix in table:
                title += f" ± {spread}"
                text = _joined(text, "\u00a0±\u00a0{}", _texts(table[base + suffix], number))
        if interval and name == "difference":
            title += " [95 % interval]"
            ends = zip(_texts(table["low"], number), _texts(table["high"], number), strict=True)
            text = _joined(text, " [{}]", ["–" if "–" in pair else ", ".join(pair) for pair in ends])
        shown[title] = text
    # The class gives it the theme's colours, light and dark.
    return shown.style.hide().set_table_attributes('class="dataframe"')


def _numbers(precision: int) -> Callable[[Any], str]:
    return lambda value: f"{value:,.{precision}f}" if isinstance(value, float) else f"{value:,}"


def _plain(value: Any) -> str:
    return f"{value:g}"


def _texts(column: pd.Series, number: Callable[[Any], str]) -> list[str]:
    """Every value of a column in words."""
    texts = []
    for value in column.tolist():  # Python's own types
        if value is None or value != value:
            texts.append("–")
        elif isinstance(value, Way):
            texts.append(value.label)
        elif isinstance(value, bool):
            texts.append("yes" if value else "no")
        else:
            texts.append(number(value) if isinstance(value, int | float) else str(value))
    return texts


def _joined(texts: list[str], pattern: str, spreads: list[str]) -> list[str]:
    """Each text with its spread, where there is one."""
    pairs = zip(texts, spreads, strict=True)
    return [text if spread == "–" else text + pattern.format(spread) for text, spread in pairs]
