"""How far the protocol's short recipe gets: accuracy of the dense networks beside what it should reach."""

import numpy as np

from splinestudy.results.names import network_name
from splinestudy.results.tables import markdown_table
from splinestudy.runs.committed import STUDIES, committed
from splinestudy.runs.store import RecordStore

ASKED = {"full": 0.925, "half": 0.91, "full_residual": 0.90}
"""By the profile of the network, as ``book/protocol.md`` says it."""

_COLUMNS = {
    "network": "---",
    "seeds": "---:",
    "accuracy": "---:",
    "asked": "---:",
    "short by": "---:",
    "training loss": "---:",
}


def recipe_rows(store: RecordStore) -> list[dict[str, str]]:
    """One row for each network of the protocol that has dense records: mean accuracy, what it lacks, last loss."""
    rows = []
    for profile, asked in ASKED.items():
        studies = [study for study in STUDIES if study.profile == profile]
        found = {record.key: record for study in studies for record in committed(study, store, "dense")}
        plain = [one for one in found.values() if not one.settings["train"]["norm_l1"]]
        if plain:
            reached = [record.results["epochs"][-1]["accuracy"] for record in plain]
            spread = f" ± {100 * np.std(reached, ddof=1):.2f}" if len(plain) > 1 else ""
            short = 100 * (asked - np.mean(reached))
            loss = np.mean([record.results["epochs"][-1]["loss"] for record in plain])
            rows.append(
                {
                    "network": network_name(plain[0]),
                    "seeds": str(len(plain)),
                    "accuracy": f"{100 * np.mean(reached):.2f}{spread} %",
                    "asked": f"{100 * asked:g} %",
                    "short by": f"{short:.2f} points" if short > 0 else "reached",
                    "training loss": f"{loss:.2f}",
                }
            )
    return rows


def recipe_table(store: RecordStore) -> str:
    """:func:`recipe_rows` as Markdown, or a sentence where no such network is there."""
    rows = recipe_rows(store)
    if not rows:
        return "None of these networks has been trained yet."
    return "\n".join(markdown_table(_COLUMNS, (row.values() for row in rows)))
