"""Random graphs of piecewise affine steps, and which piece of each step a point lies on, seen as PyTorch runs it."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

# A unit this close to zero, beside the others of its step, may be on either side by rounding.
CLOSE = 1e-8


class Pieces(TorchFunctionMode):
    """Notes at every bend on which side of it each element lies, and whether that is clear of rounding."""

    def __init__(self):
        super().__init__()
        self.sides, self.clear = [], []

    def bend(self, *values):
        for z in values:
            self.sides.append((z > 0).flatten(1))
            self.clear.append((z.abs() > CLOSE * (1 + z.abs().max())).flatten(1))

    def winner(self, x, dims):
        """``x`` with the dimensions that compete at its end."""
        x = x.movedim(dims, tuple(range(-len(dims), 0))).flatten(-len(dims))
        top = x.topk(min(2, x.shape[-1]), dim=-1).values
        clear = (top[..., :1] - top[..., -1:] > CLOSE * (1 + top.abs().max())) | (x.shape[-1] == 1)
        self.sides.append(F.one_hot(x.argmax(-1), x.shape[-1]).bool().flatten(1))
        self.clear.append(clear.expand(x.shape).flatten(1))

    def windows(self, x, kernel, stride, padding):
        axes = x.ndim - 2
        x = F.pad(x, (padding,) * 2 * axes, value=-1e30)
        for axis in range(axes):
            x = x.unfold(2 + axis, kernel, stride)
        self.winner(x, tuple(range(2 + axes, 2 + 2 * axes)))

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        x, name = args[0] if args else None, function.__name__.strip("_")
        rest = (*args[1:], *kwargs.values())
        if name in ("relu", "leaky_relu", "abs", "prelu"):
            self.bend(x)
        elif name == "relu6":
            self.bend(x, x - 6)
        elif name == "hardtanh":
            self.bend(x - rest[0], x - rest[1])
        elif name == "hardsigmoid":
            self.bend(x + 3, x - 3)
        elif name == "softshrink":
            self.bend(x - rest[0], x + rest[0])
        elif name == "threshold":
            self.bend(x - rest[0])
        elif name == "clamp":
            self.bend(*(x - bound for bound in (kwargs.get("min"), kwargs.get("max")) if bound is not None))
        elif name in ("maximum", "minimum"):
            self.bend(x - args[1])
        elif name in ("max", "amax"):
            self.winner(x, (kwargs["dim"],))
        elif name in ("min", "amin"):
            self.winner(-x, (kwargs["dim"],))
        elif name in ("max_pool1d", "max_pool2d"):
            self.windows(x, *rest[:3])
        return function(*args, **kwargs)


def pieces(model, inputs):
    """Sides ``[N, bits]`` and whether each is clear, ``[N, bits]``."""
    with torch.no_grad(), Pieces() as seen:
        model(inputs)
    return torch.cat(seen.sides, 1).numpy(), torch.cat(seen.clear, 1).numpy()


class Graph(nn.Module):
    """A dense layer, ``steps`` steps on what came before, and a dense layer to three outputs.

    Args:
        grid: weights are multiples of this, so that functions tie and vanish; 0 for any.
        offset: inputs are centred here.
    """

    def __init__(self, seed, steps=6, grid=0.0, offset=0.0):
        super().__init__()
        self.rng, self.grid, self.offset = np.random.default_rng(seed), grid, offset
        self.generator = torch.Generator().manual_seed(seed)
        self.kept = nn.ModuleList()
        self.shape = [(6,), (2, 3), (3, 4), (1, 4, 4), (2, 3, 3)][self.rng.integers(5)]
        self.first = self.dense(2, int(np.prod(self.shape)))
        self.steps, made = [], [self.start(torch.zeros(1, 2).double())]
        while len(self.steps) < steps:
            step = self.draw(made)
            out = step([value.clone() for value in made])
            if 0 < out[0].numel() <= 60:
                self.steps.append(step)
                made.append(out)
        self.last = self.dense(sum(value[0].numel() for value in made[-2:]), 3)
        self.eval()

    def numbers(self, *shape):
        found = torch.randn(*shape, generator=self.generator, dtype=torch.float64)
        return (found / self.grid).round() * self.grid if self.grid else found

    def keep(self, module):
        """A module in float64 with weights of ours."""
        for parameter in module.double().parameters():
            size = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
            parameter.data = self.numbers(*parameter.shape) / (1 if self.grid else size**0.5)
        self.kept.append(module.eval())
        number = len(self.kept) - 1
        return lambda x: Graph.running.kept[number](x)

    def dense(self, wide, out):
        return self.keep(nn.Linear(wide, out))

    def start(self, x):
        Graph.running = self  # a copy of a graph runs its own modules
        return F.leaky_relu(self.first(x - self.offset), 0.5).reshape(-1, *self.shape)

    def forward(self, x):
        made = [self.start(x)]
        for step in self.steps:
            made.append(step(made))
        return self.last(torch.cat([value.flatten(1) for value in made[-2:]], 1))

    def draw(self, made):
        """A step on the last tensor, or on it and an earlier one: a function of all tensors so far."""
        x, r = made[-1], self.rng
        one = {2: self.of_vectors, 3: self.of_rows, 4: self.of_images}[x.ndim]
        equal = [k for k, value in enumerate(made[:-1]) if value.shape == x.shape]
        kind = r.integers(4)
        if kind == 0 and equal:
            return self.of_two(int(r.choice(equal)))
        step = self.bends() if kind == 1 else one(x)
        return lambda made: step(made[-1])

    def choose(self, steps):
        return steps[self.rng.integers(len(steps))]

    def of_two(self, k):
        alpha = float(self.rng.choice([-1.0, 0.5, 2.0]))
        return self.choose([
            lambda m: torch.add(m[-1], m[k], alpha=alpha), lambda m: m[k] - m[-1],
            lambda m: torch.maximum(m[-1], m[k]), lambda m: torch.minimum(m[k], m[-1]),
            lambda m: torch.stack([m[-1], m[k], -m[k]], 1).amax(dim=1), lambda m: torch.cat([m[k], m[-1]], 1),
            lambda m: torch.relu_(m[k]) + m[-1],  # whoever read m[k] before sees it changed
        ])  # fmt: skip

    def bends(self):
        c = float(self.rng.choice([0.25, 0.5, 1.0]))
        return self.choose([
            F.relu, torch.abs, lambda x: F.leaky_relu(x, 0.25), lambda x: F.relu6(4 * x),
            lambda x: F.hardtanh(x, -c, 0.5), lambda x: F.hardsigmoid(3 * x), lambda x: F.softshrink(x, c),
            lambda x: F.threshold(x, c, c), lambda x: torch.clamp(x, min=-c), lambda x: x.clamp(min=-c, max=2 * c),
            lambda x: torch.clamp(x, max=c), self.keep(nn.PReLU()),
        ])  # fmt: skip

    def of_any(self, x):
        c = self.numbers(*x.shape[1:])
        return [
            lambda x: x * c,
            lambda x: c - x,
            lambda x: x.flip(1),
            lambda x: x + c,
            lambda x: x.roll(1, 1),
        ]

    def of_vectors(self, x):
        n = x.shape[1]
        return self.choose([self.dense(n, 4), self.dense(n, 6), lambda x: F.relu(x), *self.of_any(x),
                            lambda x: torch.cat([part.flip(1) for part in x.chunk(2, 1)], 1),
                            lambda x: x.unsqueeze(1), lambda x: x.repeat(1, 2).reshape(-1, 2, n),
                            lambda x: torch.relu(x).reshape(-1, 1, 1, n)])  # fmt: skip

    def of_rows(self, x):
        t, f = x.shape[1:]
        kernel, weight = self.numbers(2, t, 2) / t, self.numbers(f, 3) / f
        steps = [self.dense(f, 3), lambda x: x @ weight, lambda x: x.transpose(1, 2), lambda x: x.flatten(1),
                 lambda x: x.max(dim=1).values, lambda x: x.min(dim=2)[0], lambda x: x.sum(2), lambda x: x.cumsum(1),
                 lambda x: x - x.mean(1, keepdim=True), lambda x: torch.einsum("btf,fo->bot", x, weight),
                 lambda x: sum(x.unbind(1)), lambda x: F.pad(x, (1, 0), value=0.5), *self.of_any(x)]  # fmt: skip
        if f > 1:
            steps += [lambda x: F.conv1d(x, kernel, stride=1, padding=1), lambda x: F.max_pool1d(x, 2, 1, 0),
                      lambda x: F.interpolate(x, scale_factor=2, mode="linear"), lambda x: F.avg_pool1d(x, 2),
                      self.keep(nn.ConvTranspose1d(t, 2, 2, stride=2))]  # fmt: skip
        return self.choose(steps)

    def of_images(self, x):
        c, h, w = x.shape[1:]
        steps = [lambda x: x.flatten(1), lambda x: x.permute(0, 3, 1, 2), lambda x: x + x.mean((2, 3), keepdim=True),
                 lambda x: x.amax(dim=3), lambda x: x.sum(dim=(1, 3)), lambda x: F.interpolate(x, size=(h, 2)),
                 self.keep(nn.Conv2d(c, 2, (1, 1))), self.norm(c), *self.of_any(x)]  # fmt: skip
        if min(h, w) > 1:
            steps += [self.keep(nn.Conv2d(c, 2, 2, padding=1, stride=2)), self.keep(nn.ConvTranspose2d(c, 1, 2)),
                      self.keep(nn.Conv2d(c, 2, 3, padding=1, padding_mode="reflect")),
                      self.keep(nn.Conv2d(c, 2 * c, 2, groups=c)), lambda x: F.max_pool2d(x, 2, 1, 0),
                      lambda x: F.max_pool2d(x, 2, 2, 1), lambda x: F.avg_pool2d(x, 2, 1, 1),
                      lambda x: F.adaptive_avg_pool2d(x, 2), lambda x: F.pad(x, (1, 0, 0, 1), mode="replicate"),
                      lambda x: F.interpolate(x, size=(3, 3), mode="bilinear"),
                      lambda x: F.unfold(x, 2)]  # fmt: skip
        return self.choose(steps)

    def norm(self, channels):
        found = self.keep(nn.BatchNorm2d(channels))
        norm = self.kept[-1]
        norm.running_mean.copy_(self.numbers(channels))
        norm.running_var.copy_(0.5 + self.numbers(channels).abs())
        return found
