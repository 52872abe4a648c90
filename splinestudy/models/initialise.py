"""One rule for first weights, and a way to draw them from a seed alone."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Modules built inside draw their weights from ``seed``, on the CPU; the global RNG is left as it was."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would reseed the accelerators too, whose state is not forked here.
        torch.random.default_generator.manual_seed(int(seed))
        yield


def initialise(model: nn.Module) -> nn.Module:
    """Draw the first weights of a convolutional network, in place, from the global RNG; return the network.

    * Convolutions: He normal with ``fan_out``, zero bias (He et al., ICCV 2015).
    * Batch norms: left at PyTorch's scale 1, shift 0. Network slimming's code starts scales at 0.5; here
      the L1 penalty is the only thing that shrinks them.
    * The last linear layer: N(0, 0.01²), zero bias. Earlier ones keep PyTorch's uniform ±1/√fan_in, since so
      small a deviation would nearly silence a layer that others follow.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return model
