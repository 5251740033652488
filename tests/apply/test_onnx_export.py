"""Encoders in ONNX Runtime: the exported file, its agreement with torch, and reconstruct --runtime onnx."""

from __future__ import annotations

import copy
import errno
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mofa_nvdr.apply import onnx_export
from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.result_files import image_paths
from mofa_nvdr.cli import main
from mofa_nvdr.data.crops.framing import FRAMING
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.networks.encoder import Encoder, build_encoder
from mofa_nvdr.networks.onnx_encoder import FORMAT, OUTPUTS, OnnxEncoder
from mofa_nvdr.runs.build import encoder_spec, make_encoder
from mofa_nvdr.runs.checkpoint import checkpoint_path, read_checkpoint, save_checkpoint
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import replace_options
from mofa_nvdr.runs.shipped import shipped_encoder, shipped_onnx
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.scene.camera import Camera
from tests.helpers.small_face import small_face

onnx = pytest.importorskip("onnx", reason="needs the extra [onnx]")
pytest.importorskip("onnxscript", reason="needs the extra [onnx]")
pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")

SIZE, STEP = 80, 7  # of the photographs; the network sees 64


def randomize_head(encoder: Encoder, seed: int = 0) -> None:
    """Predictions of about one scale, as after training; at the start all are zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in encoder.head.parts.values():
            layer.weight.copy_(0.005 * torch.randn(layer.weight.shape, generator=generator))
            layer.bias.copy_(0.2 * torch.randn(layer.bias.shape, generator=generator))


def save_run(folder: Path, encoder: Encoder, metadata: dict, step: int = STEP) -> Path:
    folder.mkdir(exist_ok=True)
    save_checkpoint(checkpoint_path(folder, step), encoder, None, {**metadata, "step": step})
    return folder


@pytest.fixture(scope="module")
def cap(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "cap.safetensors"
    small_face(24).save(path)
    return path


@pytest.fixture(scope="module")
def trained(cap) -> tuple[Encoder, dict]:
    """An encoder as if trained, and what a checkpoint says of it."""
    model = small_face(24)
    config = replace_options(
        load_config("smoke"), {"run.face_model": str(cap), "data.image_size": SIZE}
    )
    torch.manual_seed(0)
    encoder = make_encoder(config, model.layout).eval()
    randomize_head(encoder)
    reference = ModelReference(model.name, model.hash, str(cap))
    spec = encoder_spec(config, encoder, reference, Camera(image_size=SIZE))
    return encoder, {"encoder": spec.to_json(), "data": config.data.path, "facts": {}}


@pytest.fixture(scope="module")
def run(trained, cap, tmp_path_factory) -> Path:
    """A run folder with its encoder exported by the command."""
    folder = save_run(tmp_path_factory.mktemp("runs") / "run", *trained)
    assert main(["export-encoder", str(folder), "--face-model", str(cap)]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(run) -> Path:
    return run / "encoder.onnx"


@pytest.fixture
def export(cap, exported, monkeypatch, capsys):
    """Call the command with the exporter's work done before; exit status, stdout, stderr's lines."""
    monkeypatch.setattr(onnx_export, "encoder_to_onnx", lambda *_: exported.read_bytes())

    def call(run, *options, face_model=cap):
        capsys.readouterr()
        status = main(["export-encoder", str(run), *options, "--face-model", str(face_model)])
        said = capsys.readouterr()
        return status, said.out, said.err.splitlines()

    return call


@pytest.fixture
def reconstruct(cap, tmp_path, capsys):
    def call(photo, checkpoint, runtime="onnx", out="out", face_model=cap):
        capsys.readouterr()
        status = main(
            ["reconstruct", str(photo), "--crops", "--checkpoint", str(checkpoint), "--runtime", runtime,
             "--out", str(tmp_path / out), "--face-model", str(face_model), "--device", "cpu"]
        )  # fmt: skip
        return status, capsys.readouterr().err.splitlines()

    return call


@pytest.fixture
def photo(tmp_path) -> Path:
    rows = np.random.default_rng(0).integers(0, 255, (120, 120, 3))
    iio.imwrite(tmp_path / "a.png", rows.astype(np.uint8))
    return tmp_path / "a.png"


def allowed(values: torch.Tensor) -> float:
    return onnx_export.ABSOLUTE + onnx_export.RELATIVE * values.abs().max().item()


@pytest.mark.slow
class TestFile:
    def test_names_sizes_and_opset(self, exported):
        model = onnx.load(exported)
        onnx.checker.check_model(model)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
        shapes = {
            value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (*model.graph.input, *model.graph.output)
        }
        layout = small_face(24).layout
        assert shapes == {
            "image": ["batch", 3, "height", "width"],
            "shape": ["batch", layout.num_shape],
            "expression": ["batch", layout.num_expression],
            "albedo": ["batch", layout.num_albedo],
            "rotation": ["batch", 3],
            "translation": ["batch", 3],
            "light": ["batch", 9, 3],
        }

    def test_facts(self, exported, trained):
        texts = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
        assert texts["format"] == FORMAT and texts["trunk"] == "mobilenet_v3_large"
        assert json.loads(texts["face_model"]) == {
            **trained[1]["encoder"]["face_model"], "file": "cap.safetensors",
        }  # fmt: skip
        assert Camera(**json.loads(texts["camera"])) == Camera(
            SIZE, focal=Camera(SIZE).focal_px, position=Camera(SIZE).position
        )
        assert json.loads(texts["crop"]) == FRAMING and FRAMING["scale"] == 1.35
        assert (texts["step"], texts["checkpoint"]) == ("7", "checkpoint-00000007.safetensors")
        assert texts["opset"] == "18" and "resized to 80 x 80" in texts["input"]
        assert set(json.loads(texts["units"])) == set(OUTPUTS)
        assert json.loads(texts["tolerance"]) == {
            "absolute": 1e-4, "relative": 1e-4, "rounding": 4,
        }  # fmt: skip

    def test_says_nothing_about_the_machine(self, exported, cap):
        """torch's exporter keeps stack traces, with the paths of whoever exports."""
        data = exported.read_bytes()
        assert str(Path(onnx_export.__file__).parent).encode() not in data
        assert str(Path(torch.__file__).parent).encode() not in data
        assert str(cap.parent).encode() not in data
        assert b"Traceback" not in data and b'File "' not in data

    def test_the_page_about_it_tells_the_truth(self, exported, tmp_path, monkeypatch):
        """Its program for readers without torch runs, and its table has the file's names."""
        page = (Path(__file__).parents[2] / "docs" / "encoders.md").read_text(encoding="utf-8")
        (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        assert "torch" not in program
        shutil.copy(exported, tmp_path / "face_encoder.onnx")
        monkeypatch.chdir(tmp_path)
        scope: dict = {}
        exec(compile(program, "encoders.md", "exec"), scope)
        assert tuple(scope["code"]) == OUTPUTS
        assert scope["code"]["light"].shape == (2, 9, 3)
        assert set(scope["camera"]) == {"image_size", "focal", "near", "far", "position"}
        texts = {entry.key for entry in onnx.load(exported).metadata_props}
        listed = re.search(r"The metadata (.*?)\. Before", page).group(1)
        assert set(re.findall(r"`(\w+)`", listed)) | {"mofa_nvdr"} == texts


class TestAgreement:
    @pytest.mark.parametrize("shape", [(1, SIZE, SIZE), (5, SIZE, SIZE), (2, 131, 97), (1, 40, 40)])
    def test_any_batch_and_any_size(self, exported, trained, shape):
        batch, height, width = shape
        images = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
        encoder = trained[0]
        square = images
        if (height, width) != (SIZE, SIZE):
            square = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
        with torch.no_grad():
            want = encoder(square)
        got = OnnxEncoder(exported)(images)
        for where in encoder.layout.slices.values():
            # measured 1e-6 of the largest
            assert (got[:, where] - want[:, where]).abs().max() <= allowed(want[:, where])
            assert want[:, where].abs().max() > 0.1

    @pytest.mark.parametrize("name", ["alexnet", "resnet18", "vgg_face"])
    def test_the_other_encoders(self, name, monkeypatch):
        """At sizes where AlexNet's and VGG's pooling before the linear layers has to stretch."""
        make = torch.nn.Linear.__init__

        def narrow(self, inputs, outputs, *args, **kwargs):  # they hold most of the weights
            inputs, outputs = (48 if size == 4096 else size for size in (inputs, outputs))
            make(self, inputs, outputs, *args, **kwargs)

        monkeypatch.setattr(torch.nn.Linear, "__init__", narrow)
        torch.manual_seed(0)
        encoder = build_encoder(name, CodeLayout(3, 2, 4), input_size=None).eval()
        randomize_head(encoder)
        data = onnx_export.encoder_to_onnx(
            encoder, 72, {"face_model": {"name": "", "hash": ""}, "camera": {}, "step": 0}
        )
        sets = {"noise": torch.rand(3, 3, 72, 72), "of another size": torch.rand(1, 3, 99, 60)}
        worst = onnx_export.compare_with_torch(encoder, OnnxEncoder(data), 72, sets)
        assert set(worst) == set(OUTPUTS) and 0 < max(worst.values()) < 1e-3

    @pytest.mark.parametrize("times", [1, 20])
    def test_torchs_own_rounding_is_allowed_for(self, trained, times):
        """A depth that is the difference of two large numbers: float32 is off, the exact one is not."""
        encoder = copy.deepcopy(trained[0])
        images = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
        images = images.repeat(3, 1, 1, 1)  # alike, so that the bias takes all but the rounding
        with torch.no_grad():
            layer = encoder.head.parts["translation_z"]
            layer.weight.mul_(1e5)
            depth = encoder.layout.slices["translation"].stop - 1
            layer.bias.sub_(encoder(images)[0, depth] / encoder.head.scale[depth])
            exact = copy.deepcopy(encoder).double()(images.double())
            want = encoder(images)
        where = encoder.layout.slices["translation"]
        rounding = (want - exact)[:, where].abs().max().item()
        assert rounding > 10 * allowed(want[:, where])

        def other(some: torch.Tensor) -> torch.Tensor:
            return (want + times * (exact - want))[: len(some)].float()

        if times == 1:
            assert (
                onnx_export.compare_with_torch(encoder, other, SIZE, {"noise": images})[
                    "translation"
                ]
                > 0
            )
        else:
            with pytest.raises(
                RuntimeError, match="translation differs from torch by .* on noise, al"
            ):
                onnx_export.compare_with_torch(encoder, other, SIZE, {"noise": images})


class TestCommand:
    def test_says_what_was_compared(self, export, run, data_dir):
        faces = data_dir / "faces"
        status, said, errors = export(run, "--photographs", str(faces))
        assert status == 0 and errors == []
        assert f"{run / 'encoder.onnx'}: mobilenet_v3_large of checkpoint-00000007" in said
        assert "opset 18" in said
        assert "4 images of noise, 2 of another size, 6 rendered faces, 1" in said
        assert " photographs: largest difference: shape " in said

    def test_the_runs_own_photographs(self, export, trained, tmp_path, photo):
        folder = save_run(tmp_path / "run", trained[0], {**trained[1], "data": str(tmp_path)})
        (tmp_path / "b.png").write_bytes(b"no picture")
        status, said, errors = export(folder, "--out", str(tmp_path / "new" / "e.onnx"))
        assert status == 0 and "6 rendered faces, 1 photograph:" in said
        assert len(errors) == 1 and errors[0].startswith(f"skipped: {tmp_path / 'b.png'}: cannot")
        assert (tmp_path / "new" / "e.onnx").is_file()

    @pytest.mark.parametrize(
        ("part", "change"), [("rotation", 1e-3), ("translation_z", 0.1), ("light", float("nan"))]
    )
    def test_a_file_that_disagrees_is_not_left(self, export, trained, tmp_path, part, change):
        """The graph is of other weights than the checkpoint."""
        tensors, metadata = self._checkpoint(trained, tmp_path)
        encoder = Reconstructor.load(
            tmp_path / "run", metadata["encoder"]["face_model"]["file"], "cpu"
        ).encoder
        with torch.no_grad():
            encoder.head.parts[part].bias[0] += change
        save_run(tmp_path / "run", encoder, metadata)
        old = tmp_path / "run" / "encoder.onnx"
        old.write_bytes(b"an older one")
        status, _, errors = export(tmp_path / "run", "--overwrite")
        assert status == 2 and len(errors) == 1
        assert f"export-encoder: {part.removesuffix('_z')} differs from torch by " in errors[0]
        assert "allowed are" in errors[0] and "no file was written" in errors[0]
        assert old.read_bytes() == b"an older one"
        assert sorted(p.name for p in old.parent.iterdir()) == [
            "checkpoint-00000007.safetensors", "encoder.onnx",
        ]  # fmt: skip

    def test_only_an_encoder_of_the_same_run_is_replaced(
        self, trained, exported, cap, tmp_path, monkeypatch
    ):
        """A later checkpoint of it is the same run, and so is one that goes on for longer."""
        monkeypatch.setattr(onnx_export, "compare_with_torch", lambda *_: {})

        def with_facts(*arguments):  # tracing takes its time, and the graph is always the same
            model = onnx.load_from_string(exported.read_bytes())
            del model.metadata_props[:]
            onnx.helper.set_model_props(model, dict(arguments[-1]))
            return model.SerializeToString()

        monkeypatch.setattr(onnx_export, "module_to_onnx", with_facts)
        encoder, metadata = trained
        out = tmp_path / "e.onnx"

        def export_run(name, seed=0, steps=4, step=STEP, **more):
            options = {"run": {"seed": seed, "steps": steps, "out": name}}
            folder = save_run(tmp_path / name, encoder, {**metadata, "options": options}, step)
            onnx_export.export_encoder(folder, out, str(cap), **more)

        export_run("a")
        export_run("a", step=STEP + 1, steps=9)
        export_run("copy")
        before = out.read_bytes()
        assert b'"checkpoint' not in before and b"checkpoint-00000007" in before
        with pytest.raises(
            ValueError, match=r"--out .*e\.onnx is there, and is no result of the sa"
        ):
            export_run("b", seed=1)
        assert out.read_bytes() == before
        export_run("b", seed=1, overwrite=True)
        with pytest.raises(ValueError, match=r"give another --out, or --overwrite"):
            export_run("a")
        out.write_bytes(b"a file of the user's")
        with pytest.raises(ValueError, match=r"e\.onnx is there"):
            export_run("a")

    def _checkpoint(self, trained, tmp_path):
        save_run(tmp_path / "run", *trained)
        return read_checkpoint(checkpoint_path(tmp_path / "run", STEP))

    def test_a_full_disk(self, export, run, exported, monkeypatch):
        before = exported.read_bytes()

        def full(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        status, _, errors = export(run)
        assert status == 2 and errors == [
            f"mofa-nvdr: --out {exported}: cannot write there (No space left on device)"
        ]
        assert exported.read_bytes() == before and len(list(run.iterdir())) == 2

    def test_mistakes(self, export, run, exported, tmp_path):
        def refused(*args, **options) -> str:
            status, _, errors = export(*args, **options)
            assert status == 2 and len(errors) == 1, errors
            return errors[0].removeprefix("mofa-nvdr: ")

        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_text("")
        other = tmp_path / "other.safetensors"
        small_face(24, seed=5).save(other)
        assert (
            refused(tmp_path / "no") == f"{tmp_path / 'no'}: no such run folder or checkpoint file"
        )
        assert "no checkpoint-*" in refused(tmp_path / "empty")
        assert "not a readable checkpoint" in refused(tmp_path / "file")
        assert f"{exported}: exported already" in refused(exported)
        assert "trained with face model cap" in refused(run, face_model=other)
        assert "expected the name of an .onnx file" in refused(run, "--out", str(tmp_path))
        assert "expected the name of an .onnx file" in refused(run, "--out", "encoder.pb")
        blocked = tmp_path / "file" / "e.onnx"
        assert f"--out {blocked}: cannot write there" in refused(run, "--out", str(blocked))
        text = refused(run, "--photographs", str(tmp_path / "file"))
        assert f"export-encoder: no readable picture: {tmp_path / 'file'}: cannot read" in text
        assert "no pictures in this folder" in refused(
            run, "--photographs", str(tmp_path / "empty")
        )

    @pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
    def test_a_package_that_is_missing(self, export, run, monkeypatch, name):
        monkeypatch.setitem(sys.modules, name, None)
        status, _, errors = export(run)
        assert (status, errors) == (
            2, [f"mofa-nvdr: {name}: not installed; pip install 'mofa-nvdr[onnx]'"],
        )  # fmt: skip


@pytest.mark.usefixtures("certain")
class TestReconstruct:
    @pytest.mark.parametrize("place", ["folder", "file"])
    def test_the_same_parameters_as_torch(self, reconstruct, run, exported, photo, tmp_path, place):
        checkpoint = run if place == "folder" else shutil.copy(exported, tmp_path / "e.onnx")
        assert reconstruct(photo, checkpoint, "onnx", "onnx") == (0, [])
        assert reconstruct(photo, run, "torch", "torch") == (0, [])
        ours, torchs = (load_parameters(tmp_path / name / "a.npz") for name in ("onnx", "torch"))
        for part in OUTPUTS:
            want = getattr(torchs.code, part)
            assert (getattr(ours.code, part) - want).abs().max() <= allowed(want)
            assert want.abs().max() > 0
        assert ours.face_model == torchs.face_model and ours.source == torchs.source
        assert ours.camera.focal_px == torchs.camera.focal_px
        assert ours.camera.position == torchs.camera.position
        panels = [
            iio.imread(tmp_path / name / "a_panel.png").astype(int) for name in ("onnx", "torch")
        ]
        # one grey level, but for pixels that an outline crosses
        assert (np.abs(panels[0] - panels[1]).max(-1) > 1).mean() < 1e-3

    def test_the_packages_own_is_exported_once(
        self, cap, exported, photo, tmp_path, monkeypatch, capsys
    ):
        """Into the cache; here another one stands in for it, whose export is done."""
        monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path / "cache"))
        given = []
        monkeypatch.setattr(
            onnx_export, "_exported",
            lambda trained, *_: given.append(trained.path) or (exported.read_bytes(), ""),
        )  # fmt: skip
        command = ["reconstruct", str(photo), "--crops", "--runtime", "onnx", "--device", "cpu",
                   "--face-model", str(cap), "--no-pictures", "--out", str(tmp_path / "out")]  # fmt: skip
        assert main(command) == 0
        assert capsys.readouterr().err.splitlines() == [
            f"note: {shipped_onnx()}: exporting the package's encoder for ONNX Runtime, once"
        ]
        assert main(command) == 0 and capsys.readouterr().err == ""
        assert given == [shipped_encoder()]
        assert [path.name for path in shipped_onnx().parent.iterdir()] == [shipped_onnx().name]

    def test_a_cache_that_cannot_be_written(self, exported, photo, tmp_path, monkeypatch, capsys):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path / "file"))
        monkeypatch.setattr(onnx_export, "_exported", lambda *_: (exported.read_bytes(), ""))
        command = ["reconstruct", str(photo), "--runtime", "onnx", "--out", str(tmp_path / "out")]
        assert main(command) == 2
        assert capsys.readouterr().err.splitlines()[1:] == [
            f"mofa-nvdr: {tmp_path / 'file' / 'encoders'}: cannot write there (Not a directory); set "
            "MOFA_NVDR_CACHE to a folder that can be written"
        ]

    def test_the_face_model_is_found_beside_the_file(
        self, reconstruct, cap, exported, photo, tmp_path
    ):
        (tmp_path / "moved").mkdir()
        shutil.copy(exported, tmp_path / "moved" / "e.onnx")
        command = ["reconstruct", str(photo), "--crops", "--checkpoint", str(tmp_path / "moved" / "e.onnx"),
                   "--runtime", "onnx", "--out", str(tmp_path / "out"), "--device", "cpu"]  # fmt: skip
        assert main(command) == 2
        shutil.copy(cap, tmp_path / "moved")
        assert main(command) == 0
        assert load_parameters(tmp_path / "out" / "a.npz").source == "a.png"

    def test_real_crops(self, run, cap, data_dir):
        """Sixteen photographs, through both runtimes."""
        paths = image_paths([data_dir / "faces"])[::40][:16]
        square = [iio.imread(p)[:SIZE, :SIZE] for p in paths]
        images = torch.from_numpy(np.stack(square)).permute(0, 3, 1, 2).float() / 255
        want = Reconstructor.load(run, str(cap), "cpu")(images).pack()
        got = Reconstructor.load(run, str(cap), "cpu", "onnx")(images).pack()
        assert want.std(0).max() > 0.01
        # measured 4e-6
        assert (got - want).abs().max() <= allowed(want)

    def test_an_older_export_is_named(self, reconstruct, trained, exported, photo, tmp_path):
        folder = save_run(tmp_path / "run", *trained)
        save_run(folder, *trained, step=STEP + 1)
        shutil.copy(exported, folder)
        status, errors = reconstruct(photo, folder)
        assert status == 0 and len(errors) == 1
        assert errors[0] == (
            f"warning: {folder / 'encoder.onnx'} is of checkpoint-00000007.safetensors, the newest is "
            "checkpoint-00000008.safetensors; export it again for that one"
        )

    def test_a_chosen_older_checkpoint_is_not(
        self, reconstruct, trained, exported, photo, tmp_path
    ):
        folder = save_run(tmp_path / "run", *trained, step=STEP + 1)
        model = onnx.load(exported)
        for entry in model.metadata_props:
            if entry.key == "checkpoint":
                entry.value = "best.safetensors"
        onnx.save(model, folder / "encoder.onnx")
        assert reconstruct(photo, folder) == (0, [])

    def test_mistakes(self, reconstruct, run, exported, trained, photo, tmp_path):
        def refused(checkpoint, **options) -> str:
            status, errors = reconstruct(photo, checkpoint, **options)
            assert status == 2 and len(errors) == 1, errors
            assert not (tmp_path / "out").exists()
            return errors[0].removeprefix("mofa-nvdr: ")

        def edited(name: str, **texts) -> Path:
            model = onnx.load(exported)
            old = {entry.key: entry.value for entry in model.metadata_props}
            del model.metadata_props[:]
            new = {k: v for k, v in {**old, **texts}.items() if v is not None}
            onnx.helper.set_model_props(model, new)
            onnx.save(model, tmp_path / name)
            return tmp_path / name

        bare = save_run(tmp_path / "bare", *trained)
        checkpoint = checkpoint_path(bare, STEP)
        text = refused(bare)
        assert (
            f"--checkpoint {bare}: no encoder.onnx in this folder; make it with mofa-nvdr" in text
        )
        assert "--runtime onnx takes an .onnx file or a run folder" in refused(checkpoint)
        assert "no such run folder or .onnx file" in refused(tmp_path / "no.onnx")
        text = refused(exported, runtime="torch")
        assert text == f"--checkpoint {exported}: an exported encoder; give --runtime onnx with it"
        assert refused(run, runtime="tpu") == "--runtime is 'tpu', expected one of torch, onnx"

        other = tmp_path / "other.safetensors"
        small_face(24, seed=5).save(other)
        text = refused(exported, face_model=other)
        assert f"{exported}: trained with face model cap" in text and "--face-model" in text

        (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:-2000])
        (tmp_path / "text.onnx").write_text("not a model")
        (tmp_path / "empty.onnx").write_text("")
        for name in ("cut.onnx", "text.onnx", "empty.onnx"):
            assert f"{tmp_path / name}: not a readable ONNX model" in refused(tmp_path / name)
        assert "metadata does not say 'mofa-nvdr encoder 1'" in refused(
            edited("f.onnx", format="x")
        )
        for key in ("step", "camera", "face_model"):
            assert "damaged metadata" in refused(edited(f"no_{key}.onnx", **{key: None}))
            assert "damaged metadata" in refused(edited(f"bad_{key}.onnx", **{key: "{"}))
        assert "damaged metadata" in refused(edited("list.onnx", face_model="[]"))
        assert "damaged metadata" in refused(edited("c.onnx", camera='{"lens": 1}'))
        text = refused(edited("s.onnx", schema="99"))
        assert text.endswith("s.onnx: written by a newer mofa-nvdr (schema 99, this one reads up "
                             "to 1); update it")  # fmt: skip

        node = onnx.helper.make_node("Identity", ["x"], ["y"])
        values = [onnx.helper.make_tensor_value_info(n, 1, ["b", 3]) for n in "xy"]
        graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
        model.ir_version = 9
        onnx.helper.set_model_props(
            model, {e.key: e.value for e in onnx.load(exported).metadata_props}
        )
        onnx.save(model, tmp_path / "identity.onnx")
        text = refused(tmp_path / "identity.onnx")
        assert "takes x and gives y, expected image and shape, expression" in text

    def test_onnx_runtime_is_missing(self, reconstruct, run, photo, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        assert reconstruct(photo, run) == (
            2, ["mofa-nvdr: onnxruntime: not installed; pip install 'mofa-nvdr[onnx]'"],
        )  # fmt: skip
        assert reconstruct(photo, run, "torch") == (0, [])  # which needs none of it


class TestBenchmark:
    def test_table(self, exported, monkeypatch, capsys):
        monkeypatch.setattr(onnx_export, "encoder_to_onnx", lambda *_: exported.read_bytes())
        path = Path(__file__).parents[1] / "benchmarks" / "bm_encoder.py"
        threads = torch.get_num_threads()
        options = ["--encoders", "mobilenet_v3_large", "--seconds", "0", "--size", "80"]
        runpy.run_path(str(path))["main"](options)
        facts, _, header, _, row = capsys.readouterr().out.strip().splitlines()
        assert "onnxruntime" in facts and "torch" in facts
        assert header.split(" | ")[1:5] == [
            "torch, 1 thread", "torch, 2 threads", "onnx, 1 thread", "onnx, 2 threads",
        ]  # fmt: skip
        times = [float(cell.split()[0]) for cell in row.split(" | ")[1:5]]
        assert row.startswith("| mobilenet_v3_large |") and all(t > 0 for t in times)
        assert torch.get_num_threads() == threads
