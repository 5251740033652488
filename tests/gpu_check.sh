#!/usr/bin/env bash
# Everything that needs a CUDA GPU, in one call: the tests on the GPU, the comparison with nvdiffrast, the
# benchmarks; one table at the end. Needs torch with CUDA and nvdiffrast:
#   tests/gpu_check.sh [OUT.json]
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu_bench.json}
python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

"$python" - <<'PY' || exit 1
import sys

try:
    import torch
except ImportError:
    sys.exit("gpu_check: torch is not installed")
if not torch.cuda.is_available():
    sys.exit("gpu_check: torch sees no CUDA GPU; nothing was checked")
try:
    import nvdiffrast.torch
except ImportError as error:
    sys.exit(f"gpu_check: nvdiffrast can't be imported ({error}); see the README's GPU section")
PY

"$python" -m pytest -q -rs -p no:cacheprovider tests -k "cuda or nvdiffrast or parity"
tests=$?
"$python" tests/benchmarks/bm_dr.py --device cuda --batch 5 64 --out "$out"
bench=$?
echo
echo "tests: $([ $tests = 0 ] && echo passed || echo "FAILED ($tests)"); benchmark: $([ $bench = 0 ] && echo "$out" || echo "FAILED ($bench)")"
exit $((tests || bench))
