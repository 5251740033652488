"""What kernels do for the cache: tables at its lines, and requests that change and break nothing."""

import numpy as np
import pytest

from mofa_nvdr.dr.cache import fetch_to_read, fetch_to_write, table
from mofa_nvdr.dr.parallel import jit


@jit
def place_of_table(rows, columns, numbers):
    """Whether the table is written and read as others are, and the address of its first number."""
    t = table(rows, columns, np.float32)
    for k in range(rows):
        for n in range(columns):
            t[k, n] = numbers[k, n]
    total = 0.0
    for k in range(rows):
        total += t[k, columns - 1]
    return t.ctypes.data, total, t.shape


@jit
def fetched(array, row, column):
    fetch_to_read(array, row, column)
    fetch_to_write(array, row, column)
    return array[0, 0]


def test_tables_begin_with_a_line():
    numbers = np.arange(21, dtype=np.float32).reshape(3, 7)
    for _ in range(5):
        address, total, shape = place_of_table(3, 7, numbers)
        assert address % 64 == 0
        assert total == 6 + 13 + 20
        assert shape == (3, 7)


@pytest.mark.parametrize("place", [(0, 0), (2, 3), (np.uint32(1), 2), (-5, 7), (10**12, 10**6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_asking_for_any_place_is_harmless(dtype, place):
    array = np.full((3, 4), 5, dtype)
    assert fetched(array, *place) == 5
    assert (array == 5).all()


def test_arrays_whose_rows_lie_elsewhere_are_refused():
    with pytest.raises(Exception, match="fetch"):
        fetched(np.zeros((4, 4))[:, ::2], 0, 0)
