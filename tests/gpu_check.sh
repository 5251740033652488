#!/usr/bin/env bash
# Everything that needs a CUDA GPU, in one call: the tests on the GPU, the comparison with nvdiffrast, the
# benchmarks; one table at the end, whatever failed. Needs torch with CUDA and nvdiffrast:
#   tests/gpu_check.sh [OUT.json [options of mofa-nvdr bench]]
# The table's figures are in OUT.json too, and pytest's whole output in OUT.log.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu_check.json}
if [[ $out != *.json ]]; then
    echo "gpu_check: $out does not end in .json; name a file for the table" >&2
    exit 2
fi
shift $(($# > 0))
python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
: >"${out%.json}.log" || exit 1  # rather now than after minutes of work
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

"$python" - "$work/facts.json" <<'PY' || exit 1
import json
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
for module in ("pytest", "hypothesis", "mofa_nvdr.bench.operators"):
    try:
        __import__(module)
    except ImportError as error:
        sys.exit(f'gpu_check: {module} can\'t be imported ({error}); pip install -e ".[dev]"')

from mofa_nvdr import dr
from mofa_nvdr.bench.operators import machine_facts

facts = machine_facts(torch.device("cuda"))
for name, value in facts.items():
    print(f"{name}: {value}", flush=True)
with open(sys.argv[1], "w") as file:
    json.dump(facts, file)
# nvdiffrast 0.3.5 compiles itself at its first call, for minutes; better here than in a test.
pos = torch.tensor([[[-1.0, -1, 0, 1], [1, -1, 0, 1], [-1, 1, 0, 1]]], device="cuda")
tri = torch.tensor([[0, 1, 2]], dtype=torch.int32, device="cuda")
try:
    rast, _ = dr.rasterize(dr.RasterizeContext(), pos, tri, (4, 4))
except Exception as error:
    sys.exit(f"gpu_check: nvdiffrast can't draw one triangle: {type(error).__name__}: {error}")
if int((rast[..., 3] == 1).sum()) != 6:
    sys.exit("gpu_check: one triangle covers the wrong pixels; nothing else was checked")
PY

# Warnings are errors in this project's tests, but not those of a compiler or a driver.
MOFA_NVDR_PARITY="$work/parity.jsonl" "$python" -m pytest -q -rfEs --tb=short -W default \
    -p no:cacheprovider --junitxml="$work/tests.xml" tests -k "cuda or nvdiffrast or parity" \
    2>&1 | tee "${out%.json}.log"
tests=${PIPESTATUS[0]}
"$python" tests/benchmarks/bm_dr.py --device cuda --batch 5 64 --out "$work/bench.json" "$@"
bench=$?

"$python" - "$work" "$out" "$tests" "$bench" <<'PY'
import json
import os
import sys
import xml.etree.ElementTree as tree
from pathlib import Path

work, out, tests, bench = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


def read(name):
    try:
        return (work / name).read_text(encoding="utf-8")
    except OSError:
        return ""


facts = json.loads(read("facts.json"))
worst = {}
for line in read("parity.jsonl").splitlines():
    row = json.loads(line)
    key = (row["other"], row["what"])
    if key not in worst or not row["figure"] <= worst[key]["figure"]:  # NaN is the worst of all
        worst[key] = row
rows = json.loads(read("bench.json") or "{}").get("rows", [])
cases = {"passed": 0, "failed": [], "skipped": 0}
if (work / "tests.xml").exists():
    for case in tree.parse(work / "tests.xml").iter("testcase"):
        bad = case.find("failure") is not None or case.find("error") is not None
        if bad:
            cases["failed"].append(f"{case.get('classname')}::{case.get('name')}")
        elif case.find("skipped") is not None:
            cases["skipped"] += 1
        else:
            cases["passed"] += 1

print("\n" + "=" * 96)
for name, value in facts.items():
    print(f"{name:12} {value}")
print(f"\n{'CPU against nvdiffrast':60} {'worst':>12} {'at most':>12}")
for (other, what), row in worst.items():
    if other == "nvdiffrast":
        good = "" if row["figure"] <= row["limit"] else "  FAILED"
        print(f"{what:60} {row['figure']:12.3g} {row['limit']:12.3g}{good}")
if not any(other == "nvdiffrast" for other, _ in worst):
    print("nothing was compared")
print(f"\n{'times, ms: median (best)':36} {'batch':>5} {'pixels':>6} {'forward':>17} {'backward':>17}")
for row in rows:
    print(
        f"{row['operator']:36} {row['batch']:>5} {row['resolution']:>6} "
        f"{row['forward']:>8.2f} ({row['forward_best']:>6.2f}) "
        f"{row['backward']:>8.2f} ({row['backward_best']:>6.2f})"
    )
print(f"\ntests: {cases['passed']} passed, {len(cases['failed'])} failed, {cases['skipped']} skipped")
for name in cases["failed"]:
    print(f"  FAILED {name}")
print("benchmark: " + ("done" if bench == 0 else f"FAILED ({bench}); what was timed stands above"))
report = {**facts, "tests": cases, "parity": list(worst.values()), "rows": rows}
partial = out.with_name(out.name + ".partial")
partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
os.replace(partial, out)
print(f"all of it: {out}, {out.with_suffix('.log')}")
PY
exit $((tests != 0 || bench != 0))
