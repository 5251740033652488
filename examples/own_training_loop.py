"""Train an encoder in a loop of your own, with a loss of your own.

    python examples/own_training_loop.py [FOLDER of face crops] [STEPS]

Without a folder it makes faces of its own to learn from. `mofa-nvdr train` does more: a warm start, terms
that keep faces in place, checkpoints, reports. This is the smallest loop that has everything to change.
"""

from __future__ import annotations

import sys
from itertools import islice

import torch

from mofa_nvdr import FaceDecoder, FaceModel, build_encoder
from mofa_nvdr.data.sampling import batches
from mofa_nvdr.data.shards import open_corpus
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.losses.mofa import photometric_raster, statistical_regularizer

SIZE, BATCH = 112, 4
folder = sys.argv[1] if len(sys.argv) > 1 else ""
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 30

torch.manual_seed(0)
model = FaceModel.load("default")
decoder = FaceDecoder(model, SIZE, gradient="surface")
# What one unit of the last layer means, in standard deviations, radians, mm and SH coefficients.
units = {"shape": 0.1, "expression": 0.1, "albedo": 0.1, "rotation": 0.05, "light": 0.1}
encoder = build_encoder("compact", model.layout, output_scale=units, input_size=SIZE)
optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-4)

if folder:
    stream = batches(open_corpus(folder, "train", SIZE), BATCH)
else:
    stream = SyntheticFaces(decoder, plain=True).batches(BATCH, seed=0, start_step=0)


def symmetric_light(light: torch.Tensor) -> torch.Tensor:
    """A loss of your own: portraits are rarely lit from one side alone. [B, 9, 3] -> a scalar."""
    return light[:, 3].square().mean()  # the function x of the spherical harmonics


encoder.train()
for step, batch in enumerate(islice(stream, steps), 1):
    code = model.layout.unpack(encoder(batch.images))  # [B, 3, S, S] -> FaceCode
    face = decoder.rasterize(decoder.geometry(code))  # image, mask, normals, landmarks, ...
    photometric = photometric_raster(face, batch.target).mean()
    regularizer = statistical_regularizer(code, albedo_weight=0.1, expression_weight=0.8).mean()
    loss = 1.92 * photometric + 5e-4 * regularizer + 0.1 * symmetric_light(code.light)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(encoder.parameters(), 10.0)
    optimizer.step()
    if step % 10 == 0 or step == steps:
        print(
            f"step {step}: photometric {photometric.item():.4f}, mask {face.mask.mean().item():.3f}"
        )
stream.close()
