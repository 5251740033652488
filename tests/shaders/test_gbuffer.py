"""The pass over the G-buffer: by hand, against its plain twin, and its gradients."""

import pytest
import torch
from mofa_nvdr.shaders.gbuffer import shade_gbuffer, shade_gbuffer_ref
from torch.autograd import gradcheck

from mofa_nvdr.lighting import LAMBERT_CONSTANTS

NAMES = ("image", "albedo", "normal", "shading", "rest", "mask")


def gbuffer(batch=2, height=5, width=4, channels=8, dtype=torch.float32, seed=0):
    """Random buffer, rast that covers some 70 % of the pixels, and light."""
    generator = torch.Generator().manual_seed(seed)
    buffer = torch.randn(batch, height, width, channels, generator=generator, dtype=dtype)
    rast = torch.rand(batch, height, width, 4, generator=generator, dtype=dtype)
    rast[..., 3] = (rast[..., 3] > 0.3) * 7
    buffer = buffer * (rast[..., 3:] > 0)  # dr.interpolate leaves zeros where nothing is drawn
    light = torch.randn(batch, 9, 3, generator=generator, dtype=dtype)
    return buffer.requires_grad_(), rast, light.requires_grad_()


class TestShadeGbuffer:
    def test_by_hand(self):
        """A normal of length 2 towards the viewer, under light along z only; row 0 is the last one."""
        buffer = torch.zeros(1, 3, 1, 7)
        buffer[0, 0, 0] = torch.tensor([0, 0, 2, 0.5, 0.25, 1, -9])
        rast = torch.zeros(1, 3, 1, 4)
        rast[0, 0, 0, 3] = 1
        light = torch.zeros(1, 9, 3)
        light[0, 2] = torch.tensor([1.0, 2.0, 3.0])  # the function z
        shaded = dict(zip(NAMES, shade_gbuffer(buffer, rast, light)))
        z = LAMBERT_CONSTANTS[2]
        want = {
            "mask": [1], "rest": [-9], "normal": [0, 0, 1], "albedo": [0.5, 0.25, 1],
            "shading": [z, 2 * z, 3 * z], "image": [0.5 * z, 0.5 * z, 3 * z],
        }  # fmt: skip
        for name, values in want.items():
            assert shaded[name][0, :, 2, 0].tolist() == pytest.approx(values), name
            assert (shaded[name][0, :, :2] == 0).all(), name

    @pytest.mark.parametrize("channels", [6, 7, 9])
    def test_is_its_twin(self, device, channels):
        values, gradients = [], []
        for function in (shade_gbuffer, shade_gbuffer_ref):
            buffer, rast, light = gbuffer(channels=channels)
            outs = function(buffer.to(device), rast.to(device), light.to(device))
            generator = torch.Generator().manual_seed(1)
            loss = sum(
                (out * torch.randn(out.shape, generator=generator).to(device)).sum()
                for out in outs
                if out.numel()
            )
            loss.backward()
            values.append(outs)
            gradients.append((buffer.grad, light.grad))
        for name, one, two in zip(NAMES, *values):
            torch.testing.assert_close(one, two, atol=2e-6, rtol=1e-5, msg=name)
        for one, two in zip(*gradients):
            torch.testing.assert_close(one, two, atol=2e-5, rtol=1e-5)

    @pytest.mark.parametrize("name", NAMES[:5])
    def test_gradient_of_one_output_alone(self, name):
        gradients = []
        for function in (shade_gbuffer, shade_gbuffer_ref):
            buffer, rast, light = gbuffer()
            out = dict(zip(NAMES, function(buffer, rast, light)))[name]
            grads = torch.autograd.grad(out.square().sum(), (buffer, light), allow_unused=True)
            gradients.append(
                [torch.zeros_like(t) if g is None else g for g, t in zip(grads, (buffer, light))]
            )
        for one, two in zip(*gradients):
            torch.testing.assert_close(one, two, atol=2e-5, rtol=1e-5)

    def test_twin_gradcheck(self):
        buffer, rast, light = gbuffer(1, 3, 3, 7, torch.float64)
        assert gradcheck(lambda b, s: shade_gbuffer_ref(b, rast, s)[:5], (buffer, light))

    def test_same_bits_for_any_thread_count(self):
        before, results = torch.get_num_threads(), []
        try:
            for num_threads in (1, 2, 5):
                torch.set_num_threads(num_threads)
                buffer, rast, light = gbuffer(3, 33, 40)
                image = shade_gbuffer(buffer, rast, light)[0]
                image.square().sum().backward()
                results.append((image.detach(), buffer.grad, light.grad))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other))
