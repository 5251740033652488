"""Tests of mofa_nvdr."""

import os

# Processes that share the machine (pytest -n) take a share of its cores each, and so does what they
# start. Set here, before anything imports torch.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    _share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _share)))
