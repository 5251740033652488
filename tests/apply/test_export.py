"""Export: other programs read back what was written; the readers are tests/helpers/mesh_readers.py."""

import dataclasses
import math

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.apply import export
from mofa_nvdr.apply.export import LEAST_MOTION, ExportOptions, export_file
from mofa_nvdr.apply.glb_files import glb_bytes
from mofa_nvdr.apply.mesh_files import Mesh
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_camera import PhotoFrame
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from mofa_nvdr.scene.lighting import linear_to_srgb
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.shaders.sh_lambert import sh_lambert
from mofa_nvdr.system.marks import read_mark
from tests.helpers.exported_faces import some_face
from tests.helpers.mesh_readers import Glb, geometry_of
from tests.helpers.small_face import textured_face

LEVEL = 1 / 255


@pytest.fixture
def cap(tmp_path):
    """(model, its file, a face, its file): the small cap, with named expressions and a layout."""
    model = textured_face()
    model.save(tmp_path / "cap.safetensors")
    face = some_face(model, tmp_path / "face.npz")
    return model, str(tmp_path / "cap.safetensors"), face, str(tmp_path / "face.npz")


def _sampled(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear samples [N, 3] in [0, 1] of a picture whose row 0 is at v = 1."""
    size = len(texture)
    x, y = uv[:, 0] * size - 0.5, (1 - uv[:, 1]) * size - 0.5
    column, row = (np.clip(np.floor(w).astype(int), 0, size - 2) for w in (x, y))
    fx, fy = (x - column)[:, None].clip(0, 1), (y - row)[:, None].clip(0, 1)
    values = texture.astype(float) / 255
    upper = values[row, column] * (1 - fx) + values[row, column + 1] * fx
    lower = values[row + 1, column] * (1 - fx) + values[row + 1, column + 1] * fx
    return upper * (1 - fy) + lower * fy


def _check_texture(model: FaceModel, texture: np.ndarray, albedo: np.ndarray) -> None:
    """A texture of the built-in face has its vertices' colours."""
    off = np.abs(_sampled(texture, model.uv.numpy()) - albedo).max(1)
    skin = off[model.regions.numpy() == 0]
    # Measured in levels: mean 0.7; 99th percentile 10.3 in all and 1.6 on the skin. A texel's centre lies
    # between vertices: edges of lids, teeth and pupils are one vertex wide.
    assert off.mean() < 1.5 * LEVEL and np.percentile(off, 99) < 16 * LEVEL
    assert np.percentile(skin, 99) < 4 * LEVEL


def _shown(model: FaceModel, face: FaceParameters) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices in mm, normals and clamped albedo of a face in model space."""
    vertices = model.vertices(face.code.shape, face.code.expression)
    normals = vertex_normals(vertices, model.triangles)
    albedo = model.albedo(face.code.albedo).clamp(0, 1)
    return vertices[0].numpy(), normals[0].numpy(), albedo[0].numpy()


class TestGlb:
    def test_reads_back(self, face_model, tmp_path):
        """The built-in face, by trimesh and by hand: places, triangles, normals, texture."""
        face = some_face(face_model, tmp_path / "face.npz", modest=0.5)
        written = export_file(tmp_path / "face.npz", tmp_path / "face.glb")
        assert written == [tmp_path / "face.glb"]
        vertices, normals, albedo = _shown(face_model, face)
        read = geometry_of(tmp_path / "face.glb")
        glb = Glb((tmp_path / "face.glb").read_bytes())
        # float32 metres: 1e-8
        np.testing.assert_allclose(read.vertices, vertices / 1000, atol=2e-8)
        assert (read.faces == face_model.triangles.numpy()).all()
        np.testing.assert_allclose(glb.attribute("NORMAL"), normals, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(glb.attribute("NORMAL"), axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(read.visual.uv, face_model.uv.numpy(), atol=1e-6)
        texture = np.asarray(read.visual.material.baseColorTexture.convert("RGB"))
        assert (texture == glb.texture).all() and texture.shape == (1024, 1024, 3)
        _check_texture(face_model, texture, albedo)

    def test_morph_targets(self, face_model, tmp_path):
        """Every named expression within a hundredth of a millimetre, and the way back to neutral."""
        face = some_face(face_model, tmp_path / "face.npz", modest=0.5)
        options = ExportOptions(color="none")
        export_file(tmp_path / "face.npz", tmp_path / "face.glb", options=options)
        glb = Glb((tmp_path / "face.glb").read_bytes())
        targets = glb.targets
        assert list(targets) == ["neutral", *face_model.named_expressions]
        assert glb.json["meshes"][0]["weights"] == [0] * len(targets)
        assert any("sparse" in accessor for accessor in glb.json["accessors"])
        basis = face_model.expression_basis
        for name, coefficients in face_model.named_expressions.items():
            motion = torch.tensordot(coefficients, basis, 1).numpy()
            assert np.abs(targets[name] * 1000 - motion).max() < LEAST_MOTION + 1e-4, name
            assert np.abs(motion).max() > 0.3  # mm: there is something to compare
        neutral = face_model.vertices(face.code.shape, torch.zeros_like(face.code.expression))[0]
        back = (glb.attribute("POSITION") + targets["neutral"]) * 1000
        assert np.abs(back - neutral.numpy()).max() < LEAST_MOTION + 1e-4

    def test_unlit_and_named(self, cap, tmp_path):
        _, model_file, _, face_file = cap
        export_file(face_file, tmp_path / "a.glb", model_file)
        glb = Glb((tmp_path / "a.glb").read_bytes())
        (material,) = glb.json["materials"]
        assert "KHR_materials_unlit" in material["extensions"]
        assert glb.json["extensionsUsed"] == ["KHR_materials_unlit"]
        assert glb.json["asset"]["copyright"] == "own work"
        assert glb.json["asset"]["version"] == "2.0"
        comments = " ".join(glb.json["scenes"][0]["extras"]["comments"])
        assert "units: metres" in comments and "albedo, gamma-encoded sRGB" in comments

    def test_vertex_colours_are_linear(self, cap, tmp_path):
        """sRGB 0.5 is 0.2140 in linear light; and the whole face comes back."""
        model, model_file, face, face_file = cap
        export_file(face_file, tmp_path / "a.glb", model_file, ExportOptions(color="vertex"))
        glb = Glb((tmp_path / "a.glb").read_bytes())
        accessor = glb.json["accessors"][glb.primitive["attributes"]["COLOR_0"]]
        assert accessor["normalized"] and accessor["type"] == "VEC4"
        colors = glb.attribute("COLOR_0") / 65535
        assert (colors[:, 3] == 1).all()
        again = linear_to_srgb(torch.from_numpy(colors[:, :3])).numpy()
        np.testing.assert_allclose(again, _shown(model, face)[2], atol=0.1 * LEVEL)
        read = geometry_of(tmp_path / "a.glb").visual.vertex_attributes["color"]
        assert (read == glb.attribute("COLOR_0")).all()
        grey = Mesh(np.eye(3), np.array([[0, 1, 2]]), np.eye(3), colors=np.full((3, 3), 0.5))
        assert Glb(glb_bytes(grey)).attribute("COLOR_0")[0, 0] / 65535 == pytest.approx(
            0.2140, abs=1e-4
        )

    def test_modes_as_targets(self, cap, tmp_path):
        model, model_file, face, face_file = cap
        export_file(face_file, tmp_path / "a.glb", model_file, ExportOptions(targets="modes"))
        targets = Glb((tmp_path / "a.glb").read_bytes()).targets
        assert list(targets) == ["neutral", "mode 1", "mode 2", "mode 3"]
        for k in range(3):
            off = np.abs(targets[f"mode {k + 1}"] * 1000 - model.expression_basis[k].numpy())
            assert off.max() < LEAST_MOTION + 1e-4
        export_file(face_file, tmp_path / "b.glb", model_file, ExportOptions(targets="none"))
        assert "targets" not in Glb((tmp_path / "b.glb").read_bytes()).primitive

    def test_neutral(self, cap, tmp_path):
        """The expression becomes a target that leads back to it."""
        model, model_file, face, face_file = cap
        export_file(face_file, tmp_path / "a.glb", model_file, ExportOptions(neutral=True))
        glb = Glb((tmp_path / "a.glb").read_bytes())
        neutral = model.vertices(face.code.shape, torch.zeros_like(face.code.expression))[0]
        np.testing.assert_allclose(glb.attribute("POSITION") * 1000, neutral.numpy(), atol=1e-4)
        assert list(glb.targets) == ["expression", "grin", "frown"]
        shown = (glb.attribute("POSITION") + glb.targets["expression"]) * 1000
        np.testing.assert_allclose(shown, _shown(model, face)[0], atol=LEAST_MOTION + 1e-3)

    def test_a_model_with_an_expression_called_neutral(self, cap, tmp_path):
        model, _, face, face_file = cap
        model.named_expressions["neutral"] = torch.zeros(3)
        model.save(tmp_path / "b.safetensors")  # the hash knows no names: still the face's model
        export_file(face_file, tmp_path / "a.glb", tmp_path / "b.safetensors")
        targets = Glb((tmp_path / "a.glb").read_bytes()).targets
        assert list(targets) == ["neutral_", "grin", "frown", "neutral"]
        assert (targets["neutral"] == 0).all() and (targets["neutral_"] != 0).any()

    def test_posed(self, cap, tmp_path):
        """In camera space, with the camera: projecting by its field of view gives the decoder's pixels."""
        model, model_file, face, face_file = cap
        export_file(face_file, tmp_path / "a.glb", model_file, ExportOptions(posed=True))
        glb = Glb((tmp_path / "a.glb").read_bytes())
        geometry = FaceDecoder(model, camera=face.camera).geometry(face.code)
        places = glb.attribute("POSITION").astype(float)
        np.testing.assert_allclose(places * 1000, geometry.vertices[0].numpy(), atol=1e-3)
        np.testing.assert_allclose(glb.attribute("NORMAL"), geometry.normals[0].numpy(), atol=1e-5)
        (camera,) = glb.json["cameras"]
        assert glb.json["nodes"][1]["camera"] == 0 and "matrix" not in glb.json["nodes"][1]
        focal = 0.5 / math.tan(camera["perspective"]["yfov"] / 2)  # of the picture's height
        pixels = 240 * (0.5 + focal * places[:, :2] * [1, -1] / -places[:, 2:])
        expected = face.camera.project(geometry.vertices)[0].numpy()
        np.testing.assert_allclose(pixels, expected, atol=1e-2)
        neutral = face.code.replace(expression=torch.zeros_like(face.code.expression))
        rest = FaceDecoder(model, camera=face.camera).geometry(neutral).vertices[0].numpy()
        back = (places + glb.targets["neutral"]) * 1000
        np.testing.assert_allclose(back, rest, atol=LEAST_MOTION + 1e-3)  # turned along

    def test_the_camera_stands_before_the_mesh(self, cap, tmp_path):
        """Not posed, what the camera's node sees is what the decoder draws."""
        model, model_file, face, face_file = cap
        export_file(face_file, tmp_path / "a.glb", model_file)
        glb = Glb((tmp_path / "a.glb").read_bytes())
        node = glb.json["nodes"][1]
        x, y, z, w = node["rotation"]
        vector, away = (
            -np.array([x, y, z]),
            glb.attribute("POSITION") - np.array(node["translation"]),
        )
        places = away + 2 * np.cross(vector, np.cross(vector, away) + w * away)
        geometry = FaceDecoder(model, camera=face.camera).geometry(face.code)
        np.testing.assert_allclose(places * 1000, geometry.vertices[0].numpy(), atol=2e-3)

    def test_of_the_photographs_camera(self, cap, tmp_path, capsys):
        """Where the file knows the photograph's camera it is in the .glb; its principal point is said."""
        model, model_file, face, face_file = cap
        k = np.array([[500, 0, 150.0], [0, 500, 130], [0, 0, 1]])
        pose = np.concatenate([np.eye(3), [[0], [0], [900.0]]], 1)
        frame = PhotoFrame((240, 320), k, pose, "given", 0.0)
        dataclasses.replace(face, frame=frame).save(face_file)
        export_file(face_file, tmp_path / "a.glb", model_file, ExportOptions(posed=True))
        glb = Glb((tmp_path / "a.glb").read_bytes())
        camera = glb.json["cameras"][0]["perspective"]
        assert camera["yfov"] == pytest.approx(2 * math.atan(120 / 500))
        assert camera["aspectRatio"] == pytest.approx(320 / 240)
        expected = frame.place(model.vertices(face.code.shape, face.code.expression)[0].numpy())
        np.testing.assert_allclose(glb.attribute("POSITION") * 1000, expected, atol=1e-3)
        assert "principal point is 14 px beside it" in capsys.readouterr().err

    def test_matte(self, cap, tmp_path):
        _, model_file, _, face_file = cap
        export_file(face_file, tmp_path / "a.glb", model_file, ExportOptions(material="matte"))
        assert "extensions" not in Glb((tmp_path / "a.glb").read_bytes()).json["materials"][0]

    def test_frontal_region(self, cap, tmp_path):
        """Half of the cap: its triangles, vertices and targets."""
        model, _, face, _ = cap
        model.frontal_mask[72:] = False
        model.save(tmp_path / "half.safetensors")
        export_file(
            tmp_path / "half.safetensors", tmp_path / "a.glb", options=ExportOptions(frontal=True)
        )
        glb = Glb((tmp_path / "a.glb").read_bytes())
        assert len(glb.attribute("POSITION")) == 72
        assert len(glb.array(glb.primitive["indices"])) == 3 * len(model.frontal_triangles)
        np.testing.assert_allclose(
            glb.attribute("POSITION") * 1000, model.mean_shape[:72].numpy(), atol=1e-4
        )
        motion = model.named_expressions["grin"] @ model.expression_basis.flatten(1)
        np.testing.assert_allclose(
            glb.targets["grin"] * 1000, motion.view(-1, 3)[:72], atol=LEAST_MOTION + 1e-4
        )

    def test_rendered_back(self, face_model, tmp_path):
        """Lit and posed, read by trimesh and drawn with its own texture: the decoder's picture."""
        face = some_face(face_model, tmp_path / "face.npz", modest=0.5)
        options = ExportOptions(lit=True, posed=True, targets="none")
        export_file(tmp_path / "face.npz", tmp_path / "face.glb", options=options)
        read = geometry_of(tmp_path / "face.glb")
        camera = face.camera
        decoder = FaceDecoder(face_model, camera=camera, frontal_only=False)
        expected = face_image(decoder(face.code), 0.0)[0].permute(1, 2, 0)
        pos = camera.clip_space(torch.tensor(read.vertices * 1000, dtype=torch.float32)[None])
        tri = torch.tensor(read.faces, dtype=torch.int32)
        rast, _ = dr.rasterize(dr.RasterizeContext(), pos.contiguous(), tri, (240, 240), False)
        picture = np.asarray(read.visual.material.baseColorTexture.convert("RGB"))
        texture = torch.from_numpy(picture[::-1].astype(np.float32) / 255)  # row 0 at v = 0
        uv = torch.tensor(read.visual.uv, dtype=torch.float32)[None]
        at, _ = dr.interpolate(uv.contiguous(), rast, tri)
        drawn = dr.texture(texture[None].contiguous(), at.contiguous(), filter_mode="linear")
        drawn = torch.where(rast[..., 3:] > 0, drawn, torch.zeros_like(drawn))[0].flip(0)
        off = (drawn - expected).abs().amax(-1)
        covered = expected.amax(-1) > 0
        assert covered.float().mean() > 0.3
        # Measured: 0.3 levels in the mean, 1.4 at the 99th percentile.
        assert off[covered].mean() < LEVEL and off[covered].quantile(0.99) < 4 * LEVEL


class TestObj:
    def test_reads_back(self, face_model, tmp_path):
        """The built-in face with its texture, by trimesh."""
        face = some_face(face_model, tmp_path / "face.npz", modest=0.5)
        written = export_file(tmp_path / "face.npz", tmp_path / "my face.obj")
        # Names without spaces inside the files: many readers cut them there.
        assert [p.name for p in written] == ["my_face_texture.png", "my_face.mtl", "my face.obj"]
        assert read_mark(written[0]) == "texture"
        vertices, normals, albedo = _shown(face_model, face)
        read = geometry_of(tmp_path / "my face.obj")
        np.testing.assert_allclose(read.vertices, vertices, atol=1e-4)  # mm
        assert (read.faces == face_model.triangles.numpy()).all()
        np.testing.assert_allclose(read.vertex_normals, normals, atol=2e-5)
        np.testing.assert_allclose(read.visual.uv, face_model.uv.numpy(), atol=1e-6)
        texture = np.asarray(read.visual.material.image.convert("RGB"))
        _check_texture(face_model, texture, albedo)
        head = (tmp_path / "my face.obj").read_text().splitlines()[:5]
        assert any("units: millimetres" in line for line in head)
        assert "illum 1" in (tmp_path / "my_face.mtl").read_text()

    def test_photograph_of_the_same_name_stays(self, cap, tmp_path):
        (tmp_path / "face.png").write_bytes(b"my photograph")
        export_file(cap[3], tmp_path / "face.obj", cap[1])
        assert (tmp_path / "face.png").read_bytes() == b"my photograph"

    def test_vertex_colours_and_metres(self, cap, tmp_path):
        model, model_file, face, face_file = cap
        options = ExportOptions(color="vertex", units="m")
        assert export_file(face_file, tmp_path / "a.obj", model_file, options) == [
            tmp_path / "a.obj"
        ]
        vertices, normals, albedo = _shown(model, face)
        read = geometry_of(tmp_path / "a.obj")
        np.testing.assert_allclose(read.vertices, vertices / 1000, atol=1e-7)
        assert (read.faces == model.triangles.numpy()).all()
        np.testing.assert_allclose(read.vertex_normals, normals, atol=2e-5)
        np.testing.assert_allclose(read.visual.vertex_colors[:, :3] / 255, albedo, atol=LEVEL)

    def test_a_licence_of_two_lines_adds_none(self, cap, tmp_path):
        """Whatever a model file's metadata holds, it can't write vertices of its own."""
        model, _, _, _ = cap
        model.metadata["licence"] = "free\nv 9 9 9"
        model.save(tmp_path / "b.safetensors")
        for ending in ("obj", "ply"):
            export_file(
                tmp_path / "b.safetensors",
                tmp_path / f"b.{ending}",
                options=ExportOptions(color="none"),
            )
            assert len(geometry_of(tmp_path / f"b.{ending}").vertices) == model.num_vertices


class TestPly:
    @pytest.mark.parametrize("units", ["mm", "m"])
    def test_reads_back(self, face_model, tmp_path, units):
        face = some_face(face_model, tmp_path / "face.npz", modest=0.5)
        export_file(
            tmp_path / "face.npz", tmp_path / "face.ply", options=ExportOptions(units=units)
        )
        vertices, normals, albedo = _shown(face_model, face)
        read = geometry_of(tmp_path / "face.ply")
        scale = {"mm": 1, "m": 1000}[units]
        np.testing.assert_allclose(read.vertices * scale, vertices, atol=1e-4)
        assert (read.faces == face_model.triangles.numpy()).all()
        np.testing.assert_allclose(read.vertex_normals, normals, atol=1e-5)
        off = read.visual.vertex_colors[:, :3] / 255 - albedo
        assert np.abs(off).max() < 0.51 * LEVEL


class TestMaps:
    @pytest.mark.parametrize("kind", ["png", "npz"])
    def test_next_to_the_mesh(self, cap, tmp_path, kind):
        """Files of their own; the same face replaces them, another file of the name is left alone."""
        _, model_file, _, face_file = cap
        options = ExportOptions(maps=kind, color="none")
        for _ in range(2):
            written = export_file(face_file, tmp_path / "my face.glb", model_file, options)
        names = {"png": ["my_face_depth.png", "my_face_normals.png"], "npz": ["my_face_maps.npz"]}
        assert [path.name for path in written] == [*names[kind], "my face.glb"]
        written[0].write_bytes(b"mine")
        with pytest.raises(ValueError, match="is there, and is no result"):
            export_file(face_file, tmp_path / "my face.glb", model_file, options)


class TestPhotoTexture:
    def test_in_the_files(self, tmp_path, monkeypatch):
        """The texture of the photographs stands in the place of the albedo, whatever the format."""
        model = textured_face()
        model.save(tmp_path / "cap.safetensors")
        face = some_face(model, tmp_path / "face.npz")
        skin = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
        asked = []
        monkeypatch.setattr(export, "photo_skin", lambda *args: asked.append(args) or skin)
        options = ExportOptions(texture="photo", texture_size=32, balanced=False)
        sources = [tmp_path / "face.npz", tmp_path / "face.npz"]
        for ending in ("glb", "obj"):
            export_file(
                sources, tmp_path / f"a.{ending}", tmp_path / "cap.safetensors", options,
                photos=["a.jpg", "b.jpg"],
            )  # fmt: skip
        glb = Glb((tmp_path / "a.glb").read_bytes())
        assert np.array_equal(glb.texture, skin)
        comments = " ".join(glb.json["scenes"][0]["extras"]["comments"])
        assert "from photographs, gamma-encoded sRGB" in comments
        assert np.array_equal(iio.imread(tmp_path / "a_texture.png"), skin)
        faces, given, size, photos, balanced = asked[0]
        assert [path.name for path, _ in faces] == ["face.npz", "face.npz"]
        assert given.hash == model.hash and (size, photos) == (32, ["a.jpg", "b.jpg"])
        assert faces[0][1].face_model == face.face_model and balanced is False


class TestColours:
    @pytest.mark.parametrize("posed", [False, True])
    def test_lit(self, cap, tmp_path, posed):
        """Light belongs to the pose, whether the mesh is placed in it or not."""
        model, model_file, face, face_file = cap
        options = ExportOptions(color="vertex", lit=True, posed=posed)
        export_file(face_file, tmp_path / "a.ply", model_file, options)
        geometry = FaceDecoder(model, camera=face.camera).geometry(face.code)
        lit = sh_lambert(geometry.normals, geometry.albedo, geometry.light)[0].clamp(0, 1).numpy()
        read = geometry_of(tmp_path / "a.ply").visual.vertex_colors[:, :3] / 255
        np.testing.assert_allclose(read, lit, atol=0.51 * LEVEL)
        assert np.abs(lit - _shown(model, face)[2]).max() > 0.1

    def test_average_face_of_a_model(self, cap, tmp_path):
        model, model_file, _, _ = cap
        export_file(model_file, tmp_path / "a.ply")
        read = geometry_of(tmp_path / "a.ply")
        np.testing.assert_allclose(read.vertices, model.mean_shape.numpy(), atol=1e-4)
        np.testing.assert_allclose(
            read.visual.vertex_colors[:, :3] / 255, model.mean_albedo.numpy(), atol=0.51 * LEVEL
        )


class TestSeams:
    """A layout that is cut: the left half of the cap lies above the right half in the texture."""

    @pytest.fixture
    def cut(self, tmp_path):
        arrays = {name: value.numpy() for name, value in textured_face().named_buffers()}
        triangles, uv = arrays["triangles"].astype(np.int64), arrays["uv"]
        centre = uv[triangles].mean(1)[:, 0]
        upper, num = centre > 0.5, len(uv)
        halves = uv * [0.9, 0.45] + [0.05, 0.02]
        arrays["uv"] = np.concatenate([halves, halves + [0, 0.5]]).astype(np.float32)
        arrays["uv_triangles"] = triangles + num * upper[:, None]
        model = FaceModel(
            arrays, {"name": "cut"}, {"grin": np.ones(3)}, region_names=["right", "left"]
        )
        model.save(tmp_path / "cut.safetensors")
        return model, tmp_path / "cut.safetensors"

    def test_glb_doubles_vertices(self, cut, tmp_path):
        """Each corner of each triangle has its place, its uv, its colour and its motion."""
        model, path = cut
        export_file(path, tmp_path / "a.glb", options=ExportOptions(texture_size=512))
        glb = Glb((tmp_path / "a.glb").read_bytes())
        corners = glb.array(glb.primitive["indices"]).reshape(-1, 3)
        mine, rows = model.triangles.long().numpy(), model.uv_triangles.long().numpy()
        places = glb.attribute("POSITION")
        assert model.num_vertices < len(places) < 2 * model.num_vertices
        np.testing.assert_allclose(
            places[corners] * 1000, model.mean_shape.numpy()[mine], atol=1e-4
        )
        uv = glb.attribute("TEXCOORD_0") * [1, -1] + [0, 1]
        np.testing.assert_allclose(uv[corners], model.uv.numpy()[rows], atol=1e-6)
        motion = model.expression_basis.sum(0).numpy()
        np.testing.assert_allclose(
            glb.targets["grin"][corners] * 1000, motion[mine], atol=LEAST_MOTION + 1e-4
        )
        colors = _sampled(glb.texture, uv[corners].reshape(-1, 2)).reshape(-1, 3, 3)
        assert np.abs(colors - model.mean_albedo.numpy()[mine]).max() < 6 * LEVEL
        faces = geometry_of(tmp_path / "a.glb").faces
        assert (faces == corners).all()

    def test_obj_keeps_the_mesh_whole(self, cut, tmp_path):
        model, path = cut
        export_file(path, tmp_path / "a.obj", options=ExportOptions(texture_size=64))
        lines = (tmp_path / "a.obj").read_text().splitlines()
        assert sum(line.startswith("v ") for line in lines) == model.num_vertices
        assert sum(line.startswith("vt ") for line in lines) == len(model.uv)
        first = next(line for line in lines if line.startswith("f "))
        a, i = model.triangles[0, 0] + 1, model.uv_triangles[0, 0] + 1
        assert first.split()[1] == f"{a}/{i}/{a}"
