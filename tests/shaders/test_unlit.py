"""The shader without light."""

from __future__ import annotations

import pickle

import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.dr import reference
from mofa_nvdr.render.renderer import FaceRenderer
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.shaders.unlit import Unlit
from tests.shaders.test_shader import scene


@pytest.mark.parametrize("verbs", [dr, reference])
@pytest.mark.parametrize("outline", ["none", "edges"])
def test_draws_the_albedo(verbs, outline):
    vertices, triangles, albedo, _ = scene()
    leaves = [vertices.clone().requires_grad_(), albedo.clone().requires_grad_()]
    rendering = FaceRenderer(Camera(32), dr=verbs, outline=outline, shader=Unlit())(
        leaves[0], triangles, leaves[1]
    )
    interior = rendering.image if rendering.interior is None else rendering.interior
    assert rendering.mask.sum() > 200 and torch.equal(interior, rendering.albedo)
    assert torch.equal(rendering.shading, rendering.mask.expand_as(rendering.shading))
    for gradient in torch.autograd.grad(rendering.image.square().sum(), leaves):
        assert gradient.isfinite().all() and gradient.any()


def test_is_compared_by_value_and_pickled():
    assert pickle.loads(pickle.dumps(Unlit())) == Unlit()


def test_a_light_is_refused():
    vertices, triangles, albedo, light = scene()
    with pytest.raises(
        TypeError, match=r"FaceRenderer: light is dict of direction, gloss.*the shader unlit"
    ):
        FaceRenderer(Camera(32), shader=Unlit())(vertices, triangles, albedo, light)
