"""What readers meet on data, and units that fall by it: against double loops and direct solutions."""

import pytest
import torch
from torch import nn

from splinelib.criteria.brain_surgeon import Elimination, Problem
from splinelib.layers.moments import moments_read

CASES = {
    "padded": (nn.Conv2d(4, 3, 3, padding=1), (3, 4), True),
    "in groups, with strides": (nn.Conv2d(4, 4, 3, padding=1, stride=(1, 2), groups=2), (2, 2), True),
    "depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4), (3, 3), True),
    "dilated": (nn.Conv2d(4, 3, (3, 2), padding=(2, 1), dilation=2), (4, 4), False),
    "in one dimension": (nn.Conv1d(4, 3, 5, padding="same"), (6,), True),
    "in three": (nn.Conv3d(4, 2, 2, padding=1), (2, 2, 1), True),
    "pointwise": (nn.Conv2d(4, 3, 1), (3, 3), False),
    "around the border": (nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"), (3, 3), False),
    "linear": (nn.Linear(4, 2), (), False),
}


def windows(module, image):
    """Rows [positions, groups, d] that a module reads, by convolving with one weight of 1 after the other."""
    if isinstance(module, nn.Linear):
        return image[None, None]
    taps, groups = module.weight[0].numel(), module.groups
    kernel = torch.eye(taps).double().view(taps, *module.weight.shape[1:]).repeat(groups, *[1] * image.ndim)
    probe = type(module)(
        module.in_channels, groups * taps, module.kernel_size, module.stride, module.padding, module.dilation,
        groups, bias=False, padding_mode=module.padding_mode,
    )  # fmt: skip
    probe.weight = nn.Parameter(kernel)
    return probe(image[None])[0].flatten(1).T.unflatten(1, (groups, taps)).detach()


@pytest.mark.parametrize("name", CASES)
def test_moments_are_those_of_all_windows(name, generator, monkeypatch):
    module, size, by_places = CASES[name]
    images = torch.rand(60, 4, *size, generator=generator, dtype=torch.float64)
    used = []
    ours = moments_read.__globals__["_of_places"]
    monkeypatch.setitem(
        moments_read.__globals__, "_of_places", lambda *given: (used.append(1), ours(*given))[1]
    )
    gram, mean = moments_read(module.double(), images.split(50), 60, seed=0)
    rows = torch.cat([windows(module, image) for image in images])
    torch.testing.assert_close(mean, rows.mean(0), rtol=1e-12, atol=1e-12)
    centred = rows - rows.mean(0)
    expected = torch.stack([part.T @ part / len(part) for part in centred.unbind(1)])
    torch.testing.assert_close(gram, expected, rtol=1e-10, atol=1e-12)
    assert bool(used) == by_places


def test_many_units_fall_as_by_solving_anew_each_time(generator):
    units, size = 50, 2  # more than what is held between two products
    rows = torch.randn(300, units * size, generator=generator, dtype=torch.float64)
    gram, weight = rows.T @ rows / 300, torch.randn(units * size, 3, generator=generator, dtype=torch.float64)
    ours = Elimination(
        Problem(torch.arange(units), gram, torch.zeros(units * size), weight), gram.inverse(), energy=2.0
    )
    kept = list(range(units))
    while len(kept) > 1:
        places = torch.tensor(kept)[:, None] * size + torch.arange(size)
        part = gram[places.flatten()][:, places.flatten()]
        inverse, solved = part.inverse(), torch.linalg.solve(part, gram[places.flatten()] @ weight)
        costs = []
        for block in torch.arange(len(part)).split(size):
            own = solved[block]
            costs.append(float((own * (inverse[block][:, block].inverse() @ own)).sum()) / 2)
        assert ours.units.tolist() == kept
        torch.testing.assert_close(ours.costs.tolist(), costs, rtol=1e-8, atol=0)
        ours.remove(kept.pop(int(torch.tensor(costs).argmin())))
