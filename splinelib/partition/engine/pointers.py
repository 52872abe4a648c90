"""Tuples of arrays as compiled code gets them: one pointer to a table of where the arrays lie.

Numba hands a tuple of arrays from function to function as seven numbers for each array, hundreds in all, which made
compiling the search take most of a minute. A table is one number, and what is read from it never changes during a call.
"""

import typing
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, models, register_model
from numba.np.arrayobj import make_array, populate_array
from numba.np.numpy_support import as_dtype, from_dtype

from splinelib.partition.engine.layout import Ints


class _Arrays(types.Type):
    """A named tuple of C-contiguous arrays: for each field its type and the place of its address in the table."""

    def __init__(self, kind: type, dimensions: dict[str, int]) -> None:
        super().__init__(name=kind.__name__)
        self.fields, place = {}, 0
        for name, hint in typing.get_type_hints(kind).items():
            dtype = typing.get_args(typing.get_args(hint)[1])[0]
            array = types.Array(from_dtype(np.dtype(dtype)), dimensions.get(name, 1), "C")
            self.fields[name] = array, place
            place += 1 + array.ndim


register_model(_Arrays)(models.OpaqueModel)


@infer_getattr
class _Fields(AttributeTemplate):
    key = _Arrays

    def generic_resolve(self, value: Any, attr: str) -> Any:  # type: ignore[override]
        return value.fields[attr][0] if attr in value.fields else None


@lower_getattr_generic(_Arrays)
def _field(context: Any, builder: Any, arrays: _Arrays, table: Any, name: str) -> Any:
    """Load an array's address and shape."""
    kind, place = arrays.fields[name]
    word = context.get_value_type(types.intp)
    table = builder.bitcast(table, word.as_pointer())
    found = [builder.load(cgutils.gep_inbounds(builder, table, place + k)) for k in range(1 + kind.ndim)]
    for load in found:
        load.set_metadata("invariant.load", builder.module.add_metadata([]))
    itemsize = context.get_constant(types.intp, as_dtype(kind.dtype).itemsize)
    strides = [itemsize]
    for length in reversed(found[2:]):
        strides.insert(0, builder.mul(strides[0], length))
    array = make_array(kind)(context, builder)
    data = builder.inttoptr(found[0], array.data.type)
    populate_array(array, data, found[1:], strides, itemsize, None)
    return array._getvalue()


def table_of(arrays: tuple[Any, ...]) -> Ints:
    """Where the arrays lie, and their shapes. It keeps none of them alive."""
    return np.array(
        [number for array in arrays for number in (array.ctypes.data, *array.shape)], dtype=np.int64
    )


def view_of(kind: type, **dimensions: int) -> Any:
    """For compiled code: from a table to the fields of a named tuple, of one dimension or as many as said."""
    arrays = _Arrays(kind, dimensions)

    @intrinsic
    def view(typing_context, table):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            data = make_array(signature.args[0])(context, builder, args[0]).data
            return builder.bitcast(data, context.get_value_type(arrays))

        return arrays(table), codegen

    return view


@intrinsic
def part(typing_context, array, begin, size):  # type: ignore[no-untyped-def]
    """``array[begin : begin + size]``, of one dimension, in three instructions: nothing is checked, nothing clipped."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        whole = make_array(array)(context, builder, args[0])
        first, length = (
            context.cast(builder, value, kind, types.intp)
            for value, kind in zip(args[1:], signature.args[1:], strict=True)
        )
        result = make_array(array)(context, builder)
        data = builder.gep(whole.data, [first])
        populate_array(result, data, [length], [whole.itemsize], whole.itemsize, None)
        return result._getvalue()

    return array(array, begin, size), codegen
