"""Put this package in nvdiffrast's place in a process that `dr.install(children=True)` has told to.

Python imports a module of this name when it starts, if it finds one. This one waits until the program imports
torch or nvdiffrast: other programs start as fast as ever. Another sitecustomize that it hides is imported
too.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

_WANTED = os.environ.get("MOFA_NVDR_INSTALL", "")


class _AfterTorch(importlib.abc.MetaPathFinder):
    """Imports of torch and nvdiffrast, once: as they would be, and then the package takes its place."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in ("torch", "nvdiffrast") or self not in sys.meta_path:
            return None
        if name == "torch":
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec("torch")
            if spec is not None and spec.loader is not None:
                _install_behind(spec.loader)
            return spec
        importlib.import_module("torch")
        known = sys.modules.get("nvdiffrast")
        return None if known is None else _Given(known).spec


class _Given(importlib.abc.Loader):
    """A loader of a module that exists."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self.spec = importlib.machinery.ModuleSpec(module.__name__, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        pass


def _install_behind(loader: importlib.abc.Loader) -> None:
    run = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        run(module)
        from mofa_nvdr import dr

        dr.install(cuda_to_cpu=_WANTED == "cuda_to_cpu")

    loader.exec_module = exec_module  # type: ignore[method-assign]


def _import_the_hidden_one() -> None:
    here = Path(__file__).parent
    rest = [entry for entry in sys.path if not entry or Path(entry).resolve() != here.resolve()]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", rest)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if __name__ == "sitecustomize":
    if _WANTED:
        sys.meta_path.insert(0, _AfterTorch())
    _import_the_hidden_one()
