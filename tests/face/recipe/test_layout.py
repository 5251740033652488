"""Texture coordinates and region labels of the built-in face."""

import numpy as np
import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.face.recipe import layout
from tests.helpers.small_face import small_face


def _doubled_areas(uv: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b = uv[triangles[:, 1]] - uv[triangles[:, 0]], uv[triangles[:, 2]] - uv[triangles[:, 0]]
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _covered_twice(uv: np.ndarray, triangles: np.ndarray, size: int) -> tuple[int, int]:
    """Pixels that one triangle covers, and those that a second one covers too.

    Every triangle is drawn at a depth of its own: nothing that overlaps can hide behind an equal depth.
    """
    num = len(triangles)
    corners = uv[triangles].reshape(-1, 2) * 2 - 1
    depth = np.repeat(np.linspace(-0.9, 0.9, num), 3)[:, None]
    pos = np.concatenate([corners, depth, np.ones_like(depth)], 1).astype(np.float32)
    tri = torch.arange(3 * num, dtype=torch.int32).reshape(-1, 3)
    peeler = dr.DepthPeeler(dr.RasterizeContext(), torch.from_numpy(pos)[None], tri, (size, size))
    with peeler:
        layers = [peeler.rasterize_next_layer()[0] for _ in range(2)]
    return tuple(int((layer[..., 3] > 0).sum()) for layer in layers)


class TestTextureLayout:
    def test_no_triangle_lies_on_another(self, face):
        """Rasterized: each pixel in one triangle at most; and the same check sees a fold."""
        once, twice = _covered_twice(face["uv"], face["triangles"], 1024)
        assert once > 0.8 * 1024**2  # measured: 0.89; little of the picture is wasted
        assert twice == 0
        folded = face["uv"].copy()
        folded[face["marks"][30]] += 0.03
        assert _covered_twice(folded, face["triangles"], 1024)[1] > 50

    def test_no_triangle_is_turned_over(self, face):
        assert _doubled_areas(face["uv"], face["triangles"]).min() > 1e-7
        assert face["uv"].min() > 0.005 and face["uv"].max() < 0.995

    def test_stands_as_the_face_does(self, face):
        """u along +x, v along +y, mirrored at u = 1/2."""
        uv, mirror = face["uv"], face["mirror_index"]
        np.testing.assert_allclose(
            uv[mirror], uv * [-1, 1] + [1, 0], atol=4e-5
        )  # a step of the file
        chin, left_eye, right_eye = uv[face["marks"][[8, 42, 39]]]
        assert chin[1] < 0.2 < left_eye[1] and left_eye[0] > 0.5 > right_eye[0]

    def test_little_distortion(self, face):
        """Sizes agree within a fifth on the skin, and shapes within 2 : 1 (all but a hundredth of it)."""
        triangles = face["triangles"][(face["regions"][face["triangles"]] == 0).all(1)]
        corners, uv = face["mean_shape"][triangles].astype(float), face["uv"][triangles]
        a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        x = a / np.linalg.norm(a, axis=1)[:, None]
        normal = np.cross(a, b)
        y = np.cross(normal / np.linalg.norm(normal, axis=1)[:, None], x)
        plane = np.stack([np.stack([(w * e).sum(1) for e in (x, y)], -1) for w in (a, b)], 1)
        values = np.linalg.svd(np.linalg.solve(plane, uv[:, 1:] - uv[:, :1]), compute_uv=False)
        density = np.sqrt(values.prod(1))
        density /= np.median(density)
        # Measured: 0.80 to 1.13 from the 5th to the 95th percentile; 1.4 : 1 in the median, 2.0 at the 99th.
        assert np.percentile(density, 5) > 0.7 and np.percentile(density, 95) < 1.3
        ratio = values[:, 0] / values[:, 1]
        assert np.median(ratio) < 1.6 and np.percentile(ratio, 99) < 2.5

    def test_the_mouth_and_the_eyes_have_room(self, face):
        """Pockets lie in the openings of lips and lids, at no less than a third of the skin's density."""
        areas = _doubled_areas(face["uv"], face["triangles"])
        corners = face["mean_shape"][face["triangles"]]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        density = np.sqrt(areas / np.maximum(np.linalg.norm(normals, axis=1), 1e-9))
        labels = face["regions"][face["triangles"]]
        skin = np.median(density[(labels == 0).all(1)])
        for name in ("eyes", "mouth", "teeth"):
            inside = (labels == list(face["region_names"]).index(name)).all(1)
            assert np.percentile(density[inside], 5) > skin / 3, name


class TestUnwrap:
    def test_any_disk(self):
        """A bumpy cap with a sharp spike: nothing turns over, the spike gets its share."""
        pytest.importorskip("scipy")
        model = small_face(rows=15)
        vertices, triangles = model.mean_shape.numpy().astype(float), model.triangles.numpy()
        mirror = model.mirror_index.numpy()
        vertices[15 * 7 + 7, 2] += 60
        uv = layout.unwrap(vertices, triangles, mirror, np.ones(len(vertices)))
        areas = _doubled_areas(uv, triangles)
        assert areas.min() > 0
        spike = (triangles == 15 * 7 + 7).any(1)
        assert areas[spike].mean() > 1.5 * areas[~spike].mean()

    def test_importance(self):
        pytest.importorskip("scipy")
        model = small_face(rows=15)
        vertices, triangles = model.mean_shape.numpy().astype(float), model.triangles.numpy()
        importance = np.ones(len(vertices))
        near = np.hypot(vertices[:, 0], vertices[:, 1]) < 30
        importance[near] = 2
        sizes = [
            _doubled_areas(
                layout.unwrap(vertices, triangles, model.mirror_index.numpy(), weight), triangles
            )[near[triangles].all(1)].sum()
            for weight in (np.ones(len(vertices)), importance)
        ]
        assert sizes[1] > 1.5 * sizes[0]

    def test_closed_mesh(self):
        tetrahedron = np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]])
        with pytest.raises(ValueError, match="the rim meets the midline 0 times, expected 2"):
            layout.unwrap(np.eye(4)[:, :3], tetrahedron, np.arange(4), np.ones(4))

    def test_hole(self):
        model = small_face(rows=15)
        triangles = model.triangles.numpy()
        hole = ~np.isin(triangles, [7 * 15 + 2]).any(1)  # off the midline
        with pytest.raises(ValueError, match="more than one rim, expected a disk"):
            layout.unwrap(
                model.mean_shape.numpy(),
                triangles[hole],
                model.mirror_index.numpy(),
                np.ones(15 * 15),
            )


class TestRegions:
    @pytest.mark.parametrize(
        ("landmarks", "region"),
        [
            ([8, 1, 15], "skin"),
            ([18, 19, 20, 23, 24, 25], "brows"),
            ([28, 29, 30], "nose"),
            ([37, 38, 43, 44, 40, 41, 46, 47], "eyelids"),
            ([50, 51, 52, 56, 57, 58, 62, 66], "lips"),
        ],
    )
    def test_landmarks_lie_in_them(self, face, landmarks, region):
        got = face["region_names"][face["regions"][face["marks"][landmarks]]]
        assert (got == region).all(), got

    def test_all_are_there_and_symmetric(self, face):
        counts = np.bincount(face["regions"])
        assert list(face["region_names"]) == list(layout.REGION_NAMES)
        assert len(counts) == len(layout.REGION_NAMES) and counts.min() > 50
        assert (face["regions"][face["mirror_index"]] == face["regions"]).all()

    def test_colours_agree(self, face):
        """Brows and the mouth are dark, teeth and eyes bright, lips redder than skin."""
        mean = {
            name: face["mean_albedo"][face["regions"] == k].mean(0)
            for k, name in enumerate(face["region_names"])
        }
        assert mean["brows"].mean() < 0.6 * mean["skin"].mean() > mean["mouth"].mean()
        assert mean["teeth"].mean() > mean["skin"].mean()
        assert mean["lips"][0] / mean["lips"][1] > 1.15 * mean["skin"][0] / mean["skin"][1]
