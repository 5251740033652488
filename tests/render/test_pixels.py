"""Any numbers at the vertices, at the pixels of a mesh that has been drawn."""

import pickle

import pytest
import torch

from mofa_nvdr.dr import reference
from mofa_nvdr.render.renderer import FaceRenderer, Rendering
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.shaders.gbuffer import GBuffer
from mofa_nvdr.shaders.unlit import Unlit
from tests.helpers.small_face import small_face
from tests.render.test_renderer import CAMERA, box, colors, quad, some_light


def drawn(gradient="rendering", device="cpu"):
    vertices, triangles = quad()
    vertices = vertices.to(device).requires_grad_()
    rendering = FaceRenderer(CAMERA, gradient)(
        vertices, triangles.to(device), colors().to(device), some_light().to(device)
    )
    return rendering, vertices


@pytest.mark.parametrize("channels", [1, 2, 17])
def test_any_number_of_channels(device, channels):
    """Row 15, column 20 sees (-17.5, 2.5) mm, where the axis meets the image between pixels."""
    rendering, vertices = drawn(device=device)
    place = vertices.detach()[0, :, :1] * torch.arange(1.0, channels + 1, device=device)
    planes = rendering.interpolate(place)
    assert planes.shape == (1, channels, 32, 48)
    expected = -17.5 * torch.arange(1.0, channels + 1)
    torch.testing.assert_close(planes[0, :, 15, 20].cpu(), expected, atol=1e-3, rtol=0)
    assert (planes.cpu()[rendering.mask.cpu().expand_as(planes) == 0] == 0).all()


def test_is_the_buffer_of_the_same_numbers():
    model = small_face(12)
    vertices = model.mean_shape[None] + torch.tensor([0.0, 0.0, -1000.0])
    renderer = FaceRenderer(Camera(48), shader=Unlit())
    seven = torch.rand(len(model.mean_shape), 7, generator=torch.Generator().manual_seed(3))
    rendering = renderer(vertices, model.triangles.long(), seven)
    assert rendering.image.shape == (1, 7, 48, 48)
    torch.testing.assert_close(rendering.interpolate(seven), rendering.image)
    torch.testing.assert_close(rendering.albedo, rendering.image)


def test_gradients():
    """Weights of the corners sum to one in each pixel; moving right, the plane's x moves left."""
    rendering, vertices = drawn()
    numbers = vertices.detach()[0, :, :1].clone().requires_grad_()
    plane = rendering.interpolate(numbers)
    of_numbers, of_vertices = torch.autograd.grad(plane.sum(), (numbers, vertices))
    assert of_numbers.sum().item() == pytest.approx(192, rel=1e-5)
    # A shift by 1 mm to the right takes 1 from each of 192 pixels.
    assert of_vertices[..., 0].sum().item() == pytest.approx(-192, rel=1e-4)


def test_surface_points_keep_their_numbers():
    rendering, vertices = drawn("surface")
    numbers = torch.rand(4, 2).requires_grad_()
    plane = rendering.interpolate(numbers)
    (of_numbers,) = torch.autograd.grad(plane.sum(), numbers, retain_graph=True)
    assert of_numbers.sum() > 300
    (of_vertices,) = torch.autograd.grad(plane.sum(), vertices)
    assert (of_vertices == 0).all()


def test_gradcheck():
    vertices, triangles = quad(-4.1, 4.1, -3.1, 3.1)
    points = vertices.double()
    points[..., 2] += points[..., 0] / 2
    renderer = FaceRenderer(Camera((6, 8), focal=480.0), dr=reference, shader=Unlit())

    def draw(points, numbers):
        return renderer(points, triangles, numbers).interpolate(numbers[..., :2])

    numbers = torch.rand(4, 5, dtype=torch.float64)
    assert draw(points, numbers).abs().sum() > 0
    assert torch.autograd.gradcheck(draw, (points.requires_grad_(), numbers.requires_grad_()))


def test_other_rows():
    """uv with a seam: two triangles that share no row of theirs."""
    rendering, _ = drawn()
    corners = torch.tensor([[0, 0, 0], [1, 1, 1]])
    plane = rendering.interpolate(torch.tensor([[3.0], [5.0]]), corners)[:, 0]
    for k, number in enumerate((3.0, 5.0)):
        seen = plane[rendering.triangle_ids == k]
        torch.testing.assert_close(seen, torch.full_like(seen, number))


def test_for_each_image():
    vertices, triangles = quad()
    rendering = FaceRenderer(CAMERA)(vertices.expand(2, -1, -1), triangles, colors(), some_light(2))
    numbers = torch.tensor([1.0, 2.0]).view(2, 1, 1).expand(2, 4, 1)
    plane = rendering.interpolate(numbers)
    ones = torch.ones_like(box(plane[:1]))
    torch.testing.assert_close(box(plane), torch.cat([ones, 2 * ones]))


def test_in_the_gradient_mode_of_the_rendering():
    rendering, _ = drawn()
    numbers = torch.rand(4, 1).requires_grad_()
    with torch.no_grad():
        assert rendering.interpolate(numbers).requires_grad
        silent, _ = drawn()
    assert not silent.interpolate(numbers).requires_grad


def test_is_pickled():
    rendering, _ = drawn()
    other = pickle.loads(pickle.dumps(rendering))
    numbers = torch.rand(4, 3)
    assert torch.equal(other.interpolate(numbers), rendering.interpolate(numbers))


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ((torch.zeros(5, 2),), ValueError, r"\[5, 2\], expected \[1, 4, C\] or \[4, C\]"),
            ((torch.zeros(2, 4, 2),), ValueError, r"\[2, 4, 2\], expected \[1, 4, C\]"),
            ((torch.zeros(4),), ValueError, r"\[4\], expected"),
            (
                (torch.zeros(4, 2).double(),),
                TypeError,
                "torch.float64 on cpu, expected torch.float3",
            ),
            (
                (torch.zeros(6, 2), torch.zeros(3, 3, dtype=torch.int32)),
                ValueError,
                r"triangles is \[3, 3\], expected \[2, 3\], one row for each",
            ),
            (
                (torch.zeros(6, 2), torch.zeros(2, 3)),
                ValueError,
                r"triangles is \[2, 3\] torch.float32, expected \[T, 3\] of integers",
            ),
        ],
    )
    def test_shapes(self, arguments, error, message):
        with pytest.raises(error, match=f"Rendering.interpolate: .*{message}"):
            drawn()[0].interpolate(*arguments)

    def test_no_mesh(self):
        plane = torch.zeros(1, 1, 2, 2)
        made = Rendering(plane, plane, lambda: GBuffer(*[plane] * 5))
        with pytest.raises(ValueError, match="Rendering.interpolate: this rendering keeps no mesh"):
            made.interpolate(torch.zeros(4, 1))
