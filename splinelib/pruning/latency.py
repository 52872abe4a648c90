"""How long networks take, measured in turn, so that what else runs on the machine meets all of them alike."""

import time
from collections.abc import Sequence

import torch
from torch import nn

from splinelib.checks import Count, checked
from splinelib.errors import SettingError
from splinelib.hooks import Inputs, evaluating, run, tensors_in
from splinelib.layers.images import check_inputs


@checked
def measure_latency(models: Sequence[nn.Module], example_inputs: Inputs, rounds: Count = 10) -> list[float]:
    """Least wall time in seconds of a forward pass in eval mode, of each model.

    Args:
        models: timed in turn, round after round; one round more warms them up.
        example_inputs: the batch that is timed: its size and device matter.
        rounds: how often each model is timed.

    Raises :class:`SettingError` where a model does not take the inputs.

    >>> narrow, wide = nn.Linear(10, 10), nn.Linear(10, 10**6)
    >>> one, other = measure_latency([narrow, wide], torch.zeros(8, 10), rounds=2)
    >>> one < other
    True
    """
    if not models:
        raise SettingError("there are no models to measure: give at least one")
    for model in models:
        check_inputs(model, example_inputs)
    cuda = any(tensor.is_cuda for tensor in tensors_in(example_inputs))
    wait = torch.cuda.synchronize if cuda else lambda: None
    seconds = [float("inf")] * len(models)
    for _ in range(int(rounds) + 1):
        for place, model in enumerate(models):
            with evaluating(model):
                wait()  # what was queued before is no part of it
                start = time.perf_counter()
                run(model, example_inputs)
                wait()
                seconds[place] = min(seconds[place], time.perf_counter() - start)
    return seconds
