"""Run programs written for nvdiffrast without it: `import nvdiffrast.torch` resolves to this package.

    from mofa_nvdr import dr

    dr.install(cuda_to_cpu=True)
    import nvdiffrast.torch as dr  # the program, unchanged

`python -m mofa_nvdr.dr program.py [its options]` does so for a whole program and the processes that it
starts.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from mofa_nvdr.dr import cuda_on_cpu
from mofa_nvdr.dr.context import has_nvdiffrast

NVDIFFRAST_VERSION = "0.4.0"
"""The version whose behaviour is followed, `nvdiffrast.__version__` while installed."""
IN_CHILDREN = "MOFA_NVDR_INSTALL"
"""The environment variable that `in_children/sitecustomize.py` reads: "nvdiffrast", or "cuda_to_cpu" as
well."""


def install(force: bool = False, cuda_to_cpu: bool = False, children: bool = False) -> bool:
    """Make `import nvdiffrast.torch` give `mofa_nvdr.dr` in this process.

    Args:
        force: do so too where the real nvdiffrast is installed. CUDA tensors then have no backend.
        cuda_to_cpu: for programs that name the GPU themselves: `device="cuda"`, `.cuda()` and the like
            give CPU tensors from now on, in the calling thread and those that begin later (see
            `mofa_nvdr.dr.cuda_on_cpu`). Without it a program must choose its device.
        children: do the same in Python processes that this one starts: PYTHONPATH and MOFA_NVDR_INSTALL in
            the environment tell them. (Forked processes are as their parent anyway.)

    Returns:
        Whether `nvdiffrast.torch` is ours now. Where the real one is installed a line says so on
        stderr, and nothing changes unless forced.
    """
    import mofa_nvdr.dr as ours

    if sys.modules.get("nvdiffrast.torch") is not ours:
        if has_nvdiffrast() and not force:
            print(
                "mofa_nvdr.dr.install: nvdiffrast is installed and stays in use; "
                "install(force=True) takes its place",
                file=sys.stderr,
            )
            return False
        _put_in_place(ours)
    if cuda_to_cpu:
        cuda_on_cpu.enable()
    if children:
        _tell_children(cuda_to_cpu)
    return True


def _put_in_place(ours: ModuleType) -> None:
    package = ModuleType("nvdiffrast", "mofa_nvdr.dr in nvdiffrast's place")
    package.__spec__ = ModuleSpec("nvdiffrast", None, is_package=True)
    package.__version__ = NVDIFFRAST_VERSION  # type: ignore[attr-defined]
    package.__path__ = []  # a package, so that `import nvdiffrast.torch` looks into sys.modules
    package.torch = ours  # type: ignore[attr-defined]
    operators = ModuleType(
        "nvdiffrast.torch.ops", "the operators, as nvdiffrast's own module has them"
    )
    operators.__spec__ = ModuleSpec("nvdiffrast.torch.ops", None)
    vars(operators).update({name: vars(ours)[name] for name in ours.__all__ if name in vars(ours)})
    ours.ops = operators  # type: ignore[attr-defined]
    sys.modules["nvdiffrast"] = package
    sys.modules["nvdiffrast.torch"] = ours
    sys.modules["nvdiffrast.torch.ops"] = operators


def _tell_children(cuda_to_cpu: bool) -> None:
    os.environ[IN_CHILDREN] = "cuda_to_cpu" if cuda_to_cpu else "nvdiffrast"
    folder = str(Path(__file__).parent / "in_children")
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([folder, *filter(None, known)]))
