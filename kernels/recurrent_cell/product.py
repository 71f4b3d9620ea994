"""Matrix products for a few rows, in registers: LLVM's vectors for numba, with the same bits on any thread.

The matrix [K, J] lies in panels of LANES columns, panels[p, k, lane] = matrix[k, LANES * p + lane], so that a product
reads it from front to back. A tile of the result, some rows by one or more panels, stays in registers while k goes by;
each k costs one vector of each panel and one number of each row. Every element is one sum in the order of k, whatever
tile it belongs to: a row's result depends on no other row.

Tiles have up to 12 registers of AVX2; so many are needed because a sum can take its next term only after four cycles.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from visionseq.kernels.compiled import compiled

LANES = 16  # columns of a panel
PANELS_IN_CACHE = 8  # panels that an outer product keeps for all rows

FUSED = ("contract", "nsz")
BYTE, FLOAT, LANE_INDEX = ir.IntType(8), ir.FloatType(), ir.IntType(32)
VECTOR = ir.VectorType(FLOAT, LANES)
UNDEFINED = ir.Constant(VECTOR, ir.Undefined)
ALL_FIRST = ir.Constant(ir.VectorType(LANE_INDEX, LANES), [0] * LANES)


def round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def tile(rows: int, panels: int = 1, *, transposed: bool = False) -> Callable[..., None]:
    """A numba function for one tile of out += a matrix, or of out += a^T matrix if `transposed`.

    add(out, row, a, panels, panel, depth) adds to out[row + r, LANES * (panel + p) + lane] the sum over k < depth of
    a[row + r, k] panels[panel + p, k, lane]; `transposed` takes a[k, row + r]. The arrays are float32 with contiguous
    last axes.
    """

    @intrinsic
    def add(typing, out, row, a, matrix, panel, depth):
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[Any]) -> Any:
            kinds = signature.args
            out, a, matrix = (Array(context, builder, kinds[i], arguments[i]) for i in (0, 2, 3))
            row, panel, depth = (arguments[i] for i in (1, 4, 5))
            _generate(builder, (rows, panels), transposed, out, a, matrix, row, panel, depth)
            return context.get_dummy_value()

        return types.void(out, types.intp, a, matrix, types.intp, types.intp), generate

    return add


class Array:
    """An array of float32, addressed by its strides."""

    def __init__(self, context: Any, builder: ir.IRBuilder, kind: Any, value: Any):
        array = context.make_array(kind)(context, builder, value)
        self.builder = builder
        self.data = builder.bitcast(array.data, BYTE.as_pointer())
        self.strides = cgutils.unpack_tuple(builder, array.strides)

    def place(self, *indices: Any, kind: ir.Type = FLOAT) -> Any:
        """The address of an element, as a pointer to `kind`."""
        steps = [self.builder.mul(i, stride) for i, stride in zip(indices, self.strides, strict=True)]
        place = self.data
        for step in steps:
            place = self.builder.gep(place, [step])
        return self.builder.bitcast(place, kind.as_pointer())


def _generate(
    builder: ir.IRBuilder,
    shape: tuple[int, int],
    transposed: bool,
    out: Array,
    a: Array,
    matrix: Array,
    row: Any,
    panel: Any,
    depth: Any,
) -> None:
    # the places of the tile: its rows, its panels and the sums
    index = row.type
    zero, rows = ir.Constant(index, 0), [builder.add(row, ir.Constant(index, r)) for r in range(shape[0])]
    panels = [builder.add(panel, ir.Constant(index, p)) for p in range(shape[1])]
    lanes = [builder.mul(p, ir.Constant(index, LANES)) for p in panels]
    places = [[out.place(i, j, kind=VECTOR) for j in lanes] for i in rows]

    # the sums begin with what is in `out`
    sums = [[cgutils.alloca_once(builder, VECTOR) for _ in panels] for _ in rows]
    for row_of_places, row_of_sums in zip(places, sums, strict=True):
        for place, total in zip(row_of_places, row_of_sums, strict=True):
            builder.store(builder.load(place, align=4), total)

    # one k after the other
    with cgutils.for_range(builder, depth) as loop:
        k = loop.index
        vectors = [builder.load(matrix.place(p, k, zero, kind=VECTOR), align=4) for p in panels]
        for i, row_of_sums in zip(rows, sums, strict=True):
            factor = _in_all_lanes(builder, builder.load(a.place(k, i) if transposed else a.place(i, k)))
            for vector, total in zip(vectors, row_of_sums, strict=True):
                product = builder.fmul(factor, vector, flags=FUSED)
                builder.store(builder.fadd(builder.load(total), product, flags=FUSED), total)

    # back to `out`
    for row_of_places, row_of_sums in zip(places, sums, strict=True):
        for place, total in zip(row_of_places, row_of_sums, strict=True):
            builder.store(builder.load(total), place, align=4)


def _in_all_lanes(builder: ir.IRBuilder, number: Any) -> Any:
    first = builder.insert_element(UNDEFINED, number, LANE_INDEX(0))
    return builder.shuffle_vector(first, UNDEFINED, ALL_FIRST)


tile_6, tile_4, tile_2, tile_1 = tile(6), tile(4), tile(2), tile(1)
tile_2_by_2, tile_1_by_4 = tile(2, 2), tile(1, 4)
outer_6, outer_4, outer_2, outer_1 = (tile(rows, transposed=True) for rows in (6, 4, 2, 1))


@compiled
def add_product(out, a, panels, rows, depth):
    """out[i, j] += sum_k a[i, k] matrix[k, j] for i < rows and k < depth, in all columns of the panels."""
    if rows < 4:
        _add_product_of_few(out, a, panels, rows, depth)
        return
    for panel in range(panels.shape[0]):  # it stays in the L1 cache for all rows
        row = 0
        while rows - row >= 6:
            tile_6(out, row, a, panels, panel, depth)
            row += 6
        if rows - row >= 4:
            tile_4(out, row, a, panels, panel, depth)
            row += 4
        if rows - row >= 2:
            tile_2(out, row, a, panels, panel, depth)
            row += 2
        if rows - row == 1:
            tile_1(out, row, a, panels, panel, depth)


@compiled
def _add_product_of_few(out, a, panels, rows, depth):
    """As `add_product`, for up to 3 rows: several panels at a time, or the registers would not be enough to be busy."""
    row, panel, count = 0, 0, panels.shape[0]
    if rows >= 2:
        while count - panel >= 2:
            tile_2_by_2(out, row, a, panels, panel, depth)
            panel += 2
        if count - panel == 1:
            tile_2(out, row, a, panels, panel, depth)
        row, panel = 2, 0
    if rows - row == 1:
        while count - panel >= 4:
            tile_1_by_4(out, row, a, panels, panel, depth)
            panel += 4
        while count - panel >= 1:
            tile_1(out, row, a, panels, panel, depth)
            panel += 1


@compiled
def add_outer(out, a, panels, depth):
    """out[i, j] += sum_k a[k, i] matrix[k, j] for all rows of `out` and k < depth, in all columns of the panels."""
    rows = out.shape[0]
    for low in range(0, panels.shape[0], PANELS_IN_CACHE):
        high, row = min(low + PANELS_IN_CACHE, panels.shape[0]), 0
        while rows - row >= 6:
            for panel in range(low, high):
                outer_6(out, row, a, panels, panel, depth)
            row += 6
        while rows - row >= 4:
            for panel in range(low, high):
                outer_4(out, row, a, panels, panel, depth)
            row += 4
        while rows - row >= 2:
            for panel in range(low, high):
                outer_2(out, row, a, panels, panel, depth)
            row += 2
        while rows - row >= 1:
            for panel in range(low, high):
                outer_1(out, row, a, panels, panel, depth)
            row += 1
