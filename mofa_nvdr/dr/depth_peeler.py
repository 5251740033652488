"""DepthPeeler: the layers of a scene, front to back, one rasterization each.

Layer 0 is what `rasterize` sees. Each further layer is the nearest of what lies strictly behind the
one before, by the depth the rasterizer stores; surfaces of exactly equal depth share one layer, in
which the later triangle wins.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
from torch import Tensor

from mofa_nvdr.dr.context import RasterizeContext, load_nvdiffrast
from mofa_nvdr.dr.rasterize import check_call, rasterize_layer


class DepthPeeler:
    """Rasterize a scene layer by layer; a context manager.

        with dr.DepthPeeler(glctx, pos, tri, (H, W)) as peeler:
            front, front_db = peeler.rasterize_next_layer()
            behind, behind_db = peeler.rasterize_next_layer()

    Arguments and their errors are those of `rasterize`. One peeler at a time can be active on a
    context, and in its with block the context serves nothing else.
    """

    def __init__(
        self,
        glctx: Any,
        pos: Tensor,
        tri: Tensor,
        resolution: Any,
        ranges: Tensor | None = None,
        grad_db: bool = True,
    ) -> None:
        self._call = check_call("DepthPeeler", glctx, pos, tri, resolution, ranges, grad_db)
        self._glctx, self._pos, self._tri, self._grad_db = glctx, pos, tri, grad_db
        self._cuda_peeler: Any = None
        self._peeled: np.ndarray | None = None
        self._state = "new"

    def __enter__(self) -> DepthPeeler:
        if self._state != "new":
            raise RuntimeError("DepthPeeler: used before; make a new one for every with block")
        if getattr(self._glctx, "active_depth_peeler", None) is not None:
            raise RuntimeError(
                "DepthPeeler: another one is active on glctx; leave its with block first or use a "
                "context of its own"
            )
        if self._call.device.type == "cuda":
            self._cuda_peeler = load_nvdiffrast("DepthPeeler").DepthPeeler(
                self._call.cuda_context("DepthPeeler", self._glctx),
                self._pos,
                self._tri,
                list(self._call.size),
                ranges=self._call.ranges,
                grad_db=self._grad_db,
            )
            self._cuda_peeler.__enter__()
        else:
            self._peeled = np.full((self._call.num_images, *self._call.size), -1, np.int64)
        if isinstance(self._glctx, RasterizeContext):  # nvdiffrast's own keep book themselves
            self._glctx.active_depth_peeler = self
        self._state = "active"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._state != "active":  # nothing of its own to end, and perhaps another one's turn
            return
        if isinstance(self._glctx, RasterizeContext):
            self._glctx.active_depth_peeler = None
        self._state = "finished"
        self._peeled = None
        if self._cuda_peeler is not None:
            self._cuda_peeler.__exit__(kind, error, traceback)

    def rasterize_next_layer(self) -> tuple[Tensor, Tensor]:
        """The next layer, as (rast, rast_db) of `rasterize`, with its gradients; empty after the last.

        Raises:
            RuntimeError: outside of the with block.
        """
        if self._state != "active":
            raise RuntimeError("DepthPeeler: rasterize_next_layer() works in its with block only")
        if self._cuda_peeler is not None:
            return self._cuda_peeler.rasterize_next_layer()
        call = self._call
        return rasterize_layer(
            self._pos, self._tri, call.size, call.ranges, self._grad_db, self._peeled
        )
