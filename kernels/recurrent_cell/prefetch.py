"""LLVM's prefetch for numba: asks for cache lines that will be needed soon, without reading or writing them.

The hardware foresees what follows within a page of memory; the next token of a sequence often lies in another page.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from visionseq.kernels.compiled import inlined

LINE = 16  # float32 numbers of a cache line


def _prefetch(for_writing: int):
    @intrinsic
    def prefetch(typing_context, array, index):
        def generate(context, builder, signature, arguments):
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            bytes_of, number = ir.IntType(8).as_pointer(), ir.IntType(32)
            function = ir.FunctionType(ir.VoidType(), [bytes_of, number, number, number])
            address = builder.bitcast(builder.gep(data, [arguments[1]]), bytes_of)
            near, of_data = number(2), number(1)
            called = builder.module.declare_intrinsic("llvm.prefetch", [bytes_of], function)
            builder.call(called, [address, number(for_writing), near, of_data])
            return context.get_dummy_value()

        return types.void(array, types.intp), generate

    return prefetch


prefetch = _prefetch(for_writing=0)  # (array, index) of a contiguous array of one axis
prefetch_to_write = _prefetch(for_writing=1)


@inlined
def will_read(row):
    for u in range(0, row.shape[0], LINE):
        prefetch(row, u)


@inlined
def will_write(row):
    for u in range(0, row.shape[0], LINE):
        prefetch_to_write(row, u)
