"""Sums of scaled rows of weights, three at a time, as one product of matrices whose sums stay in registers."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

# Numbers side by side in a vector, and vectors of each sum at a time: 3 sums of 4 vectors fill registers of 512 bits.
# What is narrower the compiler splits.
_VECTOR, _TILE = 8, 4
# So many rows are summed by themselves first, so that rounding grows with their number much less.
_BLOCK = 8


@intrinsic
def add_rows(typing_context, target, source, width, weights, rows, chosen, factors, room, count):  # type: ignore[no-untyped-def]
    """``target[j, i] = source[j, i] + sum(factors[j, k] * weights[rows[k] + i])`` over the first ``count`` chosen k.

    All arrays are flat; ``target`` and ``source``, which may be one, are ``[3, width]``, ``factors`` is ``[3, room]``.
    Loops that the compiler writes load each weight thrice, and it must first see that nothing overlaps.
    """

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        kinds = signature.args
        arrays = [make_array(kinds[k])(context, builder, args[k]).data for k in (0, 1, 3, 4, 5, 6)]
        width, room, count = (context.cast(builder, args[k], kinds[k], types.intp) for k in (2, 7, 8))
        word = width.type
        sums = _Sums(builder, *arrays, width, room, count)
        done = word(0)
        for lanes, vectors in ((_VECTOR, _TILE), (_VECTOR, 1), (1, 1)):
            step = word(lanes * vectors)
            tiles = builder.sdiv(builder.sub(width, done), step)
            with cgutils.for_range(builder, tiles) as tile:
                sums.add(builder.add(done, builder.mul(tile.index, step)), lanes, vectors)
            done = builder.add(done, builder.mul(tiles, step))
        return context.get_dummy_value()

    return types.void(target, source, width, weights, rows, chosen, factors, room, count), codegen


class _Sums:
    """Writes the instructions for a few columns of the target."""

    def __init__(self, builder: Any, *given: Any) -> None:
        self.builder = builder
        self.into, self.source, self.matrix, self.begin, self.chosen, self.factor, *sizes = given
        self.width, self.room, self.count = sizes

    def add(self, column: Any, lanes: int, vectors: int) -> None:
        """``lanes * vectors`` columns from ``column`` on, of all three rows."""
        builder, word = self.builder, self.width.type
        kind = ir.VectorType(ir.DoubleType(), lanes) if lanes > 1 else ir.DoubleType()
        places, sources = (
            [
                self._pointer(
                    base, builder.add(builder.mul(word(plane), self.width), column), lanes * v, kind
                )
                for plane in range(3)
                for v in range(vectors)
            ]
            for base in (self.into, self.source)
        )
        totals, parts = ([cgutils.alloca_once(builder, kind) for _ in places] for _ in range(2))
        for source, total in zip(sources, totals, strict=True):
            builder.store(builder.load(source, align=8), total)
        blocks = builder.sdiv(builder.add(self.count, word(_BLOCK - 1)), word(_BLOCK))
        with cgutils.for_range(builder, blocks) as block:
            first = builder.mul(block.index, word(_BLOCK))
            left = builder.sub(self.count, first)
            size = builder.select(builder.icmp_signed("<", left, word(_BLOCK)), left, word(_BLOCK))
            for part in parts:
                builder.store(ir.Constant(kind, None), part)
            with cgutils.for_range(builder, size) as row:
                self._add_row(builder.add(first, row.index), column, lanes, parts, kind)
            for total, part in zip(totals, parts, strict=True):
                builder.store(builder.fadd(builder.load(total), builder.load(part)), total)
        for place, total in zip(places, totals, strict=True):
            builder.store(builder.load(total), place, align=8)

    def _add_row(self, row: Any, column: Any, lanes: int, parts: list[Any], kind: Any) -> None:
        builder, word = self.builder, self.width.type
        row = builder.load(builder.gep(self.chosen, [row]))
        at = builder.add(builder.load(builder.gep(self.begin, [row])), column)
        vectors = len(parts) // 3
        weights = [
            builder.load(self._pointer(self.matrix, at, lanes * v, kind), align=8) for v in range(vectors)
        ]
        for plane in range(3):
            place = builder.add(builder.mul(word(plane), self.room), row)
            factor = builder.load(builder.gep(self.factor, [place]))
            for v, weight in enumerate(weights):
                part = parts[plane * vectors + v]
                product = builder.fmul(weight, self._spread(factor, kind), flags=("contract",))
                builder.store(builder.fadd(builder.load(part), product, flags=("contract",)), part)

    def _pointer(self, base: Any, at: Any, more: int, kind: Any) -> Any:
        at = self.builder.add(at, self.width.type(more))
        return self.builder.bitcast(self.builder.gep(base, [at]), kind.as_pointer())

    def _spread(self, number: Any, kind: Any) -> Any:
        if not isinstance(kind, ir.VectorType):
            return number
        undefined = ir.Constant(kind, ir.Undefined)
        one = self.builder.insert_element(undefined, number, ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None)
        return self.builder.shuffle_vector(one, undefined, mask)
