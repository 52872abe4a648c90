"""What a network gives without some units, from hooks on the whole network: no map of indices, no smaller module.

Which channels of a reader the units feed is seen by adding noise to what the writers write of them, while otherwise
every convolution and linear module repeats its output. Those channels are then zeroed where readers read them.
"""

import contextlib

import torch
import torch.nn.functional as F
from torch import nn

from splinelib.hooks import evaluating, run


def reads_all(module):
    """Convolutions and linear modules but for depthwise ones, which hand channels on."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return not 1 < module.groups == module.in_channels == module.out_channels
    return isinstance(module, nn.Linear | nn.RNNBase)


def over_channels(module):
    return isinstance(module, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm)


def axis(module, values):
    if isinstance(module, nn.modules.conv._ConvNd):
        return values.ndim - 1 - len(module.kernel_size)
    if isinstance(module, nn.Linear | nn.Embedding | nn.RNNBase):
        return values.ndim - 1
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return 1 if "2d" in type(module).__name__ else values.ndim - 1
    return 1


@contextlib.contextmanager
def hooked(model, before=None, after=None):
    """``before(name, module, input)`` and ``after(name, module, input, output)`` may replace what they see."""
    handles = []
    for name, module in model.named_modules():
        if (
            reads_all(module)
            or over_channels(module)
            or isinstance(module, nn.Embedding | nn.modules.conv._ConvNd)
        ):
            if before is not None:
                hook = lambda m, args, name=name: (before(name, m, args[0]), *args[1:])  # noqa: E731
                handles.append(module.register_forward_pre_hook(hook))
            if after is not None:
                hook = lambda m, args, out, name=name: after(name, m, args[0], out)  # noqa: E731
                handles.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def own(output):
    """A copy, since what follows may change it in place."""
    return output.clone() if isinstance(output, torch.Tensor) else output


@contextlib.contextmanager
def repeating(model, outputs):
    """Convolutions and linear modules give these outputs, by name, and compute nothing."""
    frozen = [(model.get_submodule(name), output) for name, output in outputs.items()]
    try:
        for module, output in frozen:
            module.forward = lambda *_, output=output: own(output)
        yield
    finally:
        for module, _ in frozen:
            module.__dict__.pop("forward", None)


def fed_channels(model, inputs, layers, selection, draws=6):
    """Input channels that selected units feed, by module: of readers, and of norms over channels."""
    frozen, read, fed = {}, {}, {}

    def freeze(name, module, values, output):
        if over_channels(module):
            return values
        if reads_all(module) or isinstance(module, nn.Embedding):
            frozen[name] = own(output)
        return output

    def remember(name, module, values):
        read[name] = values.clone()
        return values

    with evaluating(model), hooked(model, remember, freeze):
        run(model, inputs)
    plain = dict(read)
    noisy = {}
    for layer in layers:
        for writer in layer.writers if selection.get(layer.name) else ():
            for part in layer.parts:
                if part.writes and part.module == writer.module:
                    channels = torch.tensor(part.of(selection[layer.name]), dtype=torch.long)
                    noisy.setdefault(writer.module, []).append(channels)

    def disturb(name, module, values, output):
        if over_channels(module):
            return values
        if name not in frozen or name not in noisy:
            return output
        noise = torch.zeros_like(output)
        place = torch.cat(noisy[name])
        where = axis(module, output)
        shape = list(output.shape)
        shape[where] = len(place)
        size = 10 * (1 + output.abs().max())  # enough to wake what an activation cuts off
        return output + noise.index_copy(where, place, size * torch.randn(shape, dtype=output.dtype))

    for _ in range(draws):
        with evaluating(model), repeating(model, frozen), hooked(model, remember, disturb):
            run(model, inputs)
        for name, values in read.items():
            module = model.get_submodule(name)
            where = axis(module, values)
            others = [at for at in range(values.ndim) if at != where]
            changed = (values != plain[name]).any(dim=others) if others else values != plain[name]
            fed[name] = fed.get(name, False) | changed
    return fed


def without_units(model, inputs, layers, selection):
    """What the network gives if nothing reads the selected units; norms over channels see the others alone."""
    gone = fed_channels(model, inputs, layers, selection)

    def silence(name, module, values):
        if not reads_all(module) or not gone[name].any():
            return values
        shape = [1] * values.ndim
        shape[axis(module, values)] = -1
        return values.masked_fill(gone[name].view(shape), 0)

    def normalise(name, module, values, output):
        if not over_channels(module) or not gone[name].any() or gone[name].all():  # all: heads share it
            return output
        kept = (~gone[name]).nonzero().flatten()
        where = axis(module, values)
        rows = values.index_select(where, kept)
        weight = None if module.weight is None else module.weight[kept]
        bias = None if getattr(module, "bias", None) is None else module.bias[kept]
        if isinstance(module, nn.GroupNorm):
            rows = F.group_norm(rows, module.num_groups, weight, bias, module.eps)
        else:
            rows = rows.movedim(where, -1)
            norm = (
                F.rms_norm(rows, rows.shape[-1:], weight, module.eps)
                if isinstance(module, nn.RMSNorm)
                else F.layer_norm(rows, rows.shape[-1:], weight, bias, module.eps)
            )
            rows = norm.movedim(-1, where)
        return torch.zeros_like(output).index_copy(where, kept, rows)

    with evaluating(model), hooked(model, silence, normalise):
        return run(model, inputs)
