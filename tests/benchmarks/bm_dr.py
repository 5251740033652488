"""Times of the operators: `python tests/benchmarks/bm_dr.py [options]`, the same as `mofa-nvdr bench`."""

import sys

from mofa_nvdr.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
