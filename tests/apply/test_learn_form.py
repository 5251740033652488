from __future__ import annotations

import torch

from mofa_nvdr.apply.learn_form import fold


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestFold:
    def test_any_number_of_threads(self):
        before, folded = torch.get_num_threads(), []
        basis, more = random(80, 24_416, 3), random(30, 24_416, 3, seed=1)  # as the built-in face
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                folded.append(fold(basis, more))
        finally:
            torch.set_num_threads(before)
        assert torch.equal(folded[0], folded[1])
        assert torch.equal(folded[0], folded[2])  # differed by 2e-7 mm as one product
