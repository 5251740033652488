"""The objective as one function, for tests that call it or put another in its place."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.options import TrainConfig
from mofa_nvdr.training.objective import Objective
from mofa_nvdr.training.timing import StageClock

_call = Objective.__call__


def loss_terms(
    config: TrainConfig,
    encoder: nn.Module,
    decoder: FaceDecoder,
    batch: Batch,
    step: int,
    clock: StageClock | None = None,
) -> dict[str, Tensor]:
    """The loss and its terms for a batch at a step."""
    return _call(Objective(config, decoder), encoder, batch, step, clock)


def use_loss_terms(set_attribute: Callable[..., None], function: Callable[..., dict]) -> None:
    """Let every step call `function`, of the arguments of `loss_terms`, by monkeypatch.setattr or setattr."""
    set_attribute(
        Objective,
        "__call__",
        lambda self, encoder, batch, step, clock=None, reported=True: function(
            self.config, encoder, self.decoder, batch, step, clock
        ),
    )
