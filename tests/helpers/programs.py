"""Programs that run in a process of their own, with or without nvdiffrast."""

from __future__ import annotations

# nvdiffrast may be installed where the tests run.
HIDE = "import sys; sys.modules['nvdiffrast'] = None\n"
