"""Compiled: which thread takes which subtree of the search."""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from splinelib.partition.engine.geometry import INNER


@intrinsic
def _exchange(typingctx, array, index):  # type: ignore[no-untyped-def]
    """Atomically set ``array[index]`` to 1 and return what it was."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        struct = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.gep(struct.data, [args[1]])
        one = context.get_constant(types.int64, 1)
        return builder.atomic_rmw("xchg", pointer, one, "monotonic")

    return types.int64(array, types.int64), codegen


@njit(**INNER)
def claimed(s, number, threads, thread):  # type: ignore[no-untyped-def]
    """Whether this subtree is this thread's: the first to ask gets it. All threads number subtrees alike."""
    if threads == 1:
        return True
    if number < len(s.claims):
        return _exchange(s.claims, number) == 0
    mixed = np.uint64(number) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(40)) % np.uint64(threads) == np.uint64(thread)
