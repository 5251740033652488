"""The CPU kernel of `texture`: the sum of gradients that reach one texel."""

# mypy: disallow-untyped-defs=False, check-untyped-defs=False

from mofa_nvdr.dr.parallel import jit


@jit
def add_rows(sums, index, rows):
    """sums[index[k]] += rows[k], in the order of k; negative indices are left out."""
    for k in range(index.shape[0]):
        row = index[k]
        if row >= 0:
            for c in range(rows.shape[1]):
                sums[row, c] += rows[k, c]
