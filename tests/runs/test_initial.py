"""A run that begins with another run's encoder: all of it, or one line that says why not."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.face.correctives import CorrectedFaceModel
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.runs.build import encoder_spec, make_encoder
from mofa_nvdr.runs.checkpoint import (
    CORRECTIVES,
    list_checkpoints,
    read_checkpoint,
    restore_encoder,
    save_checkpoint,
    write_checkpoint,
)
from mofa_nvdr.runs.initial import read_initial
from mofa_nvdr.runs.options import replace_options
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.scene.camera import Camera
from tests.helpers.corrected_run import corrected_run
from tests.helpers.small_face import small_face
from tests.helpers.training import small_config


@pytest.fixture
def read(smoke_run, tmp_path):
    """Read the encoder of `run` for one with other options; an untrained encoder, and what was read."""
    run, cap = smoke_run

    def function(init=run, model=None, **changes):
        config = small_config(cap, tmp_path / "new", **{"encoder.init": str(init), **changes})
        model = model or FaceModel.load(cap)
        encoder = make_encoder(config, model.layout)
        camera = Camera(config.data.image_size)
        return encoder, read_initial(config, encoder, model, camera)

    return function


class TestReadInitial:
    def test_the_whole_encoder(self, read, smoke_run):
        """Its last layer, running averages and output scales, whatever the options say of these."""
        encoder, (path, step, tensors) = read(**{"encoder.scale.shape": 7.0, "run.seed": 5})
        assert path == list_checkpoints(smoke_run[0])[-1] and step == 4
        assert encoder.head.output_scale["shape"] == 7
        restore_encoder(encoder, tensors)
        theirs, _ = read_checkpoint(path)
        state = encoder.state_dict()
        assert all(torch.equal(state[name], theirs[f"encoder/{name}"]) for name in state)
        assert encoder.head.output_scale["shape"] == 1
        assert encoder.head.parts["light"].weight.abs().max() > 0
        assert all(name.startswith("encoder/") for name in tensors)

    def test_a_checkpoint_file(self, read, smoke_run):
        first = list_checkpoints(smoke_run[0])[0]
        _, (path, step, _) = read(first)
        assert (path, step) == (first, 2)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"encoder.network": "compact"}, "mobilenet_v3_large at 64 px, this run's compact at 64 px; "
             "give --encoder.network mobilenet_v3_large --encoder.size 64"),
            ({"encoder.size": 96}, "mobilenet_v3_large at 64 px, this run's mobilenet_v3_large at 96 px; "
             "give --encoder.network mobilenet_v3_large --encoder.size 64"),
        ],
    )  # fmt: skip
    def test_another_network_or_size(self, read, smoke_run, changes, words):
        with pytest.raises(ValueError) as error:
            read(**changes)
        assert str(error.value) == f"--init {smoke_run[0]}: its encoder is {words}"

    def test_a_deeper_network_begins_as_the_other(self, smoke_run, tmp_path):
        """`compact_deep` takes a `compact`, and is that network then; not the other way round."""
        _, cap = smoke_run
        model = FaceModel.load(cap)
        layout, camera = model.layout, Camera(64)
        options = {"encoder.network": "compact", "encoder.size": 64}
        config = small_config(cap, tmp_path / "first", **options)
        first = make_encoder(config, layout).eval()
        for part in first.head.parts.values():
            torch.nn.init.normal_(part.weight)
        spec = encoder_spec(config, first, ModelReference.of(model, cap), camera)
        path = tmp_path / "checkpoint-00000003.safetensors"
        write_checkpoint(
            path,
            {f"encoder/{name}": value for name, value in first.state_dict().items()},
            {"step": 3, "encoder": spec.to_json()},
        )
        options |= {"encoder.network": "compact_deep", "encoder.init": str(path)}
        config = small_config(cap, tmp_path / "second", **options)
        deep = make_encoder(config, layout).eval()
        _, step, tensors = read_initial(config, deep, model, camera)
        restore_encoder(deep, tensors)
        images = torch.rand(2, 3, 64, 64)
        assert step == 3 and torch.equal(deep(images), first(images))

        spec = encoder_spec(config, deep, ModelReference.of(model, cap), camera)
        write_checkpoint(path, tensors, {"step": 3, "encoder": spec.to_json()})
        config = replace_options(config, {"encoder.network": "compact"})
        with pytest.raises(
            ValueError, match="its encoder is compact_deep at 64 px, this run's comp"
        ):
            read_initial(config, first, model, camera)

    def test_the_base_level_of_two(self, read, smoke_run):
        """A run with correctives begins with one that has none: the same codes, and zeros behind them."""
        run, cap = smoke_run
        model = CorrectedFaceModel(FaceModel.load(cap), 2, 3)
        encoder, (path, _, tensors) = read(model=model, **{"encoder.scale.shape": 7.0})
        restore_encoder(encoder, tensors)
        images = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            code = model.layout.unpack(encoder.eval()(images))
            before = Reconstructor.load(path, cap, "cpu")(images)
        torch.testing.assert_close(model.base_code(code).pack(), before.pack())
        assert code.shape[:, 4:].abs().max() == code.albedo[:, 5:].abs().max() == 0
        assert before.shape.abs().max() > 0
        place = model.layout.slices["shape"]
        assert encoder.head.scale[place].tolist() == [1, 1, 1, 1, 7, 7]  # theirs, then its own

    def test_what_a_face_model_has_learned(self, tmp_path):
        """A run with as many correctives takes them too; another is told how many there are."""
        run, model, before = corrected_run(tmp_path)
        file = str(tmp_path / "base.safetensors")
        options = {"encoder.network": "compact", "encoder.init": str(run)}
        config = small_config(file, tmp_path / "new", **options)
        own = CorrectedFaceModel(model.base, 3, 2, seed=5)
        encoder = make_encoder(config, own.layout)
        _, _, tensors = read_initial(config, encoder, own, Camera(64))
        restore_encoder(encoder, tensors)
        restore_encoder(own, tensors, CORRECTIVES)
        assert own.shape_correctives.equal(model.shape_correctives)
        images = torch.rand(2, 3, 64, 64)
        assert torch.equal(encoder.eval()(images), before(images))
        for other in (model.base, CorrectedFaceModel(model.base, 3, 9)):
            encoder = make_encoder(config, other.layout)
            with pytest.raises(
                ValueError,
                match="it has learned correctives; give --correctives.shape 3 --corr.* 2,",
            ):
                read_initial(config, encoder, other, Camera(64))

    def test_another_face_model(self, read, smoke_run):
        with pytest.raises(
            ValueError, match="its code has 4 shape, 3 expression, 5 albedo, this fa"
        ):
            read(model=small_face(24, modes=6))
        with pytest.raises(ValueError, match="its codes are of face model cap .*as --face-model"):
            read(model=small_face(24, seed=5))

    def test_no_checkpoint(self, read, tmp_path):
        with pytest.raises(
            ValueError, match="--init .*none: no such run folder or checkpoint file"
        ):
            read(tmp_path / "none")
        with pytest.raises(
            ValueError, match=r"--init .*: no checkpoint-\*.safetensors in this fold"
        ):
            read(tmp_path)
        (tmp_path / "x.safetensors").write_bytes(b"x")
        with pytest.raises(ValueError, match="x.safetensors: not a readable checkpoint"):
            read(tmp_path / "x.safetensors")

    def test_a_checkpoint_that_was_edited(self, read, smoke_run, tmp_path):
        newest = list_checkpoints(smoke_run[0])[-1]
        _, metadata = read_checkpoint(newest)
        path = tmp_path / "edited.safetensors"
        save_checkpoint(path, torch.nn.Linear(2, 2), None, metadata)
        with pytest.raises(
            ValueError, match=r"is not a mobilenet_v3_large .* other weights: .* more"
        ):
            read(path)
