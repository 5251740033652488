"""Where the numbers of compiled kernels are when they are needed: asked for in time, and in whole lines.

Which vertices a pixel adds to is known some hundred pixels ahead, but not to the processor: by the time that
it gets there, it waits for each of them.
"""

# mypy: disallow-untyped-defs=False, check-untyped-defs=False

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from mofa_nvdr.dr.parallel import jit

ir = cgutils.ir  # llvmlite's, which comes with Numba
_BYTES, _INT = ir.IntType(8).as_pointer(), ir.IntType(32)


def _fetcher(for_writing):
    @intrinsic
    def fetch(typing_context, array, row, column):
        """Ask for the memory at a place of a contiguous array [N, C]; a place outside is harmless."""
        if not (isinstance(array, types.Array) and array.ndim == 2 and array.layout == "C"):
            return None  # Numba's error says which types were given

        def generate(context, builder, signature, args):
            fields = context.make_array(array)(context, builder, args[0])
            width = cgutils.unpack_tuple(builder, fields.shape)[1]
            i = context.cast(builder, args[1], row, types.intp)
            j = context.cast(builder, args[2], column, types.intp)
            place = builder.gep(fields.data, [builder.add(builder.mul(i, width), j)])
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(ir.VoidType(), [_BYTES, _INT, _INT, _INT]),
                "llvm.prefetch.p0",
            )
            # Into the first cache, as data rather than code.
            flags = [_INT(number) for number in (int(for_writing), 3, 1)]
            builder.call(function, [builder.bitcast(place, _BYTES), *flags])
            return context.get_dummy_value()

        return types.void(array, row, column), generate

    return fetch


fetch_to_read, fetch_to_write = _fetcher(False), _fetcher(True)


@jit(inline=True)
def table(rows, columns, dtype):
    """An array whose memory begins with a line of the cache; what a row begins with is up to `columns`.

    A vector of sixteen floats that lies in two lines takes twice as long, and where a kernel's local array
    begins is another place in every process.
    """
    memory = np.empty(rows * columns + 64, dtype)
    first = (64 - memory.ctypes.data % 64) % 64 // memory.itemsize
    return memory[first : first + rows * columns].reshape(rows, columns)
