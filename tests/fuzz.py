"""Calls of public functions with one or two arguments that are wrong: what is raised, what goes through in silence.

``python tests/fuzz.py 10000`` (``make test-long``) prints the counts, and each kind of call that is no SplineError;
further arguments are what the names of the targets begin with.
"""

import collections
import contextlib
import math
import random
import signal
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from fuzz_study import TARGETS as STUDY
from fuzz_targets import TARGETS as LIBRARY

from splinelib.errors import SplineError

TARGETS = {**LIBRARY, **STUDY}
SECONDS = 60  # after which a call counts as hanging


def wrong_values():
    """Values by name, of every type that somebody may give."""
    nan = torch.full((4, 2), math.nan)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    return {
        "None": None, "True": True, "NaN": math.nan, "inf": math.inf, "-inf": -math.inf, "0": 0, "-1": -1, "1": 1,
        "2.7": 2.7, "0.5": 0.5, "-0.5": -0.5, "1e308": 1e308, "10**30": 10**30, "-(10**30)": -(10**30),
        "int64": np.int64(3), "float32": np.float32(0.5), "empty text": "", "text": "x", "NUL": "\0", "bytes": b"x",
        "[]": [], "[2.7]": [2.7], "[0, 0]": [0, 0], "[None]": [None], "()": (), "{}": {}, "{0: 0}": {"0": [2.7]},
        "object": object(), "type": int, "function": len, "complex": 1j, "set": {1},
        "no tensor": torch.zeros(0), "0-d": torch.tensor(1.0), "1-d": torch.zeros(3), "NaN tensor": nan,
        "inf tensor": nan.nan_to_num(nan=math.inf), "int tensor": torch.zeros(4, 2, dtype=torch.int64),
        "[0, 0] tensor": torch.tensor([0, 0]), "half": torch.zeros(4, 2, dtype=torch.float16),
        "4-d": torch.zeros(2, 1, 8, 8), "5-d": torch.zeros(1, 1, 1, 1, 1), "array": np.zeros((3, 3)),
        "NaN array": np.full((3, 3), np.nan), "objects": np.array([None]), "narrow model": model,
        "no layer": torch.nn.ReLU(),
        "path": Path("/nonexistent/x"), "folder": Path(tempfile.gettempdir()),
    }  # fmt: skip


def is_bad_by_itself(kind, place, value):
    """Whether no argument of that name can take the value, so that a call that goes through has not looked at it."""
    if place in ("places", "example_inputs", "byte", "place", "path", "store", "out"):
        return False
    if isinstance(value, float):
        return not math.isfinite(value)
    return kind in ("NaN tensor", "NaN array", "object", "complex")


def _stop(*_):
    raise TimeoutError


class Call:
    """One call of a target: ``wrong`` names what was put where."""

    def __init__(self, name, seed):
        chance = random.Random(f"{name} {seed}")
        self.name, (function, arguments) = name, TARGETS[name]
        self.arguments, pool = dict(arguments()), wrong_values()
        places = chance.sample(sorted(self.arguments), min(len(self.arguments), chance.choice([1, 1, 1, 2])))
        self.wrong = {place: chance.choice(sorted(pool)) for place in places}
        self.arguments |= {place: pool[name] for place, name in self.wrong.items()}
        self.function = function
        self.bad = any(is_bad_by_itself(name, place, self.arguments[place]) for place in places)

    def outcome(self):
        """``"accepted"``, ``"refused"``, ``"silent"``, ``"hang"``, or the error's name with its message."""
        try:
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with contextlib.chdir(tempfile.gettempdir()):  # for what a relative path names
                    self.function(**self.arguments)
            return "silent" if self.bad else "accepted"
        except SplineError:
            return "refused"
        except TimeoutError:
            return "hang"
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:90]}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def __str__(self):
        return f"{self.name} with {self.wrong}"


def names_of(parts):
    """The targets whose names begin with one of ``parts`` and that take an argument."""
    return sorted(name for name, (_, given) in TARGETS.items() if name.startswith(tuple(parts)) and given())


def run(calls, parts=("",)):
    """Counts of outcomes, and the calls that are neither accepted nor refused, by outcome."""
    signal.signal(signal.SIGALRM, _stop)
    counts, faulty, names = collections.Counter(), {}, names_of(parts)
    for number in range(calls):
        torch.manual_seed(0)
        call = Call(names[number % len(names)], number)
        outcome = call.outcome()
        kind = outcome if outcome in ("accepted", "refused", "silent", "hang") else "other errors"
        counts[kind] += 1
        if kind not in ("accepted", "refused"):
            faulty.setdefault((call.name, outcome.split(":")[0]), []).append(f"{call}: {outcome}")
            print(f"{call}: {outcome}", file=sys.stderr, flush=True)
    return counts, faulty


def main(calls, *parts):
    """Print the counts; the exit status is 1 if a call was neither accepted nor refused."""
    parts = parts or ("",)
    counts, faulty = run(calls, parts)
    for (name, kind), found in sorted(faulty.items()):
        print(f"{len(found):4} {name} {kind}, such as {found[0]}")
    kinds = ("accepted", "refused", "other errors", "silent", "hang")
    print(
        f"{calls} calls of {len(names_of(parts))} targets: "
        + ", ".join(f"{counts[kind]} {kind}" for kind in kinds)
    )
    return int(bool(faulty))


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
