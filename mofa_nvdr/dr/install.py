"""Run programs written for nvdiffrast without it: `import nvdiffrast.torch` resolves to this package.

    from mofa_nvdr import dr

    dr.install(cuda_to_cpu=True)
    import nvdiffrast.torch as dr  # the program, unchanged

`python -m mofa_nvdr.dr program.py [its options]` does so for a whole program.
"""

from __future__ import annotations

import sys
from types import ModuleType

from mofa_nvdr.dr import cuda_on_cpu
from mofa_nvdr.dr.context import has_nvdiffrast

NVDIFFRAST_VERSION = "0.4.0"
"""The version whose behaviour is followed, `nvdiffrast.__version__` while installed."""


def install(force: bool = False, cuda_to_cpu: bool = False) -> bool:
    """Make `import nvdiffrast.torch` give `mofa_nvdr.dr` in this process.

    Args:
        force: do so too where the real nvdiffrast is installed. CUDA tensors then have no backend.
        cuda_to_cpu: for programs that name the GPU themselves: `device="cuda"`, `.cuda()` and the like
            give CPU tensors from now on, in the calling thread (see `mofa_nvdr.dr.cuda_on_cpu`).
            Without it a program must choose its device.

    Returns:
        Whether `nvdiffrast.torch` is ours now. Where the real one is installed a line says so on
        stderr, and nothing changes unless forced.
    """
    import mofa_nvdr.dr as ours

    if sys.modules.get("nvdiffrast.torch") is ours:
        if cuda_to_cpu:
            cuda_on_cpu.enable()
        return True
    if has_nvdiffrast() and not force:
        print(
            "mofa_nvdr.dr.install: nvdiffrast is installed and stays in use; "
            "install(force=True) takes its place",
            file=sys.stderr,
        )
        return False
    package = ModuleType("nvdiffrast", "mofa_nvdr.dr in nvdiffrast's place")
    package.__version__ = NVDIFFRAST_VERSION  # type: ignore[attr-defined]
    package.__path__ = []  # a package, so that `import nvdiffrast.torch` looks into sys.modules
    package.torch = ours  # type: ignore[attr-defined]
    sys.modules["nvdiffrast"] = package
    sys.modules["nvdiffrast.torch"] = ours
    if cuda_to_cpu:
        cuda_on_cpu.enable()
    return True
