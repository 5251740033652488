"""Encoders: names and sizes of the trunks, the zero start, parameter groups, weight files."""

from __future__ import annotations

import logging
import os
import re
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from mofa_nvdr.cli import main
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.networks import encoder as room
from mofa_nvdr.networks import trunks as networks
from mofa_nvdr.networks.encoder import HEAD_PARTS, CodeHead, Encoder, build_encoder
from mofa_nvdr.networks.trunks import TRUNKS, AlexNet, MobileNetV3Large, ResNet18, ResNet50, VGGFace

SMALL = CodeLayout(num_shape=3, num_expression=2, num_albedo=4)  # 42 numbers


@pytest.fixture(scope="module")
def mobilenet() -> Encoder:
    torch.manual_seed(0)
    return build_encoder("mobilenet_v3_large", SMALL, input_size=64).eval()


def torchvision_state(trunk: torch.nn.Module, last_layer: str, features: int) -> dict:
    """A state dict as torchvision would save it: the trunk's and 1000 classes, values at random."""
    generator = torch.Generator().manual_seed(1)
    state = {
        key: value if key.endswith("tracked") else torch.rand(value.shape, generator=generator)
        for key, value in trunk.state_dict().items()
    }
    state[f"{last_layer}.weight"] = torch.zeros(1000, features)
    state[f"{last_layer}.bias"] = torch.zeros(1000)
    return state


@pytest.fixture(scope="module")
def weights() -> dict:
    return torchvision_state(MobileNetV3Large(), "classifier.3", 1280)


def _narrow_linear(make):
    """nn.Linear's constructor with three outputs at most: the whole VGG has 134 million weights."""

    def narrow(self, inputs: int, outputs: int, *args, **kwargs) -> None:
        make(self, min(inputs, 9), min(outputs, 3), *args, **kwargs)

    return narrow


class TestTrunks:
    """Names, shapes and counts are those of torchvision's networks without their last layer."""

    @pytest.mark.parametrize(
        ("trunk", "num_parameters", "shapes"),
        [
            (
                AlexNet,
                61_100_840 - 1000 * (4096 + 1),
                {
                    "features.0.weight": [64, 3, 11, 11],
                    "features.3.weight": [192, 64, 5, 5],
                    "features.10.weight": [256, 256, 3, 3],
                    "classifier.1.weight": [4096, 9216],
                    "classifier.4.bias": [4096],
                },
            ),
            (
                VGGFace,
                138_357_544 - 1000 * (4096 + 1),
                {
                    "features.0.weight": [64, 3, 3, 3],
                    "features.5.weight": [128, 64, 3, 3],
                    "features.28.bias": [512],
                    "classifier.0.weight": [4096, 25088],
                    "classifier.3.weight": [4096, 4096],
                },
            ),
            (
                ResNet18,
                11_689_512 - 1000 * (512 + 1),
                {
                    "conv1.weight": [64, 3, 7, 7],
                    "layer1.0.conv1.weight": [64, 64, 3, 3],
                    "layer2.0.downsample.0.weight": [128, 64, 1, 1],
                    "layer4.1.bn2.running_var": [512],
                },
            ),
            (
                ResNet50,
                25_557_032 - 1000 * (2048 + 1),
                {
                    "bn1.weight": [64],
                    "layer1.0.conv3.weight": [256, 64, 1, 1],
                    "layer1.0.downsample.1.bias": [256],
                    "layer3.5.conv2.weight": [256, 256, 3, 3],
                    "layer4.0.conv2.weight": [512, 512, 3, 3],
                },
            ),
            (
                MobileNetV3Large,
                5_483_032 - 1000 * (1280 + 1),
                {
                    "features.0.0.weight": [16, 3, 3, 3],
                    "features.0.1.running_mean": [16],
                    "features.1.block.0.0.weight": [16, 1, 3, 3],
                    "features.4.block.2.fc1.weight": [24, 72, 1, 1],
                    "features.7.block.1.0.weight": [240, 1, 3, 3],
                    "features.13.block.2.fc2.weight": [672, 168, 1, 1],
                    "features.15.block.3.0.weight": [160, 960, 1, 1],
                    "features.16.0.weight": [960, 160, 1, 1],
                    "classifier.0.weight": [1280, 960],
                },
            ),
        ],
    )
    def test_names_shapes_and_count(self, trunk, num_parameters: int, shapes: dict):
        with torch.device("meta"):
            network = trunk()
        state = network.state_dict()
        assert {key: list(state[key].shape) for key in shapes} == shapes
        assert sum(p.numel() for p in network.parameters()) == num_parameters

    @pytest.mark.parametrize("name", TRUNKS)
    def test_features_at_the_smallest_size_and_at_240(self, name):
        with torch.device("meta"):
            trunk = TRUNKS[name]().eval()
            for size in (trunk.MIN_SIZE, 240):
                features = trunk(torch.zeros(2, 3, size, size))
                assert features.shape == (2, trunk.NUM_FEATURES)

    def test_vgg_face_240_is_7_by_7_before_the_linear_layers(self):
        with torch.device("meta"):
            assert VGGFace().features(torch.zeros(1, 3, 240, 240)).shape == (1, 512, 7, 7)

    @pytest.mark.parametrize(("trunk", "stride"), [(ResNet18, 32), (ResNet50, 32)])
    def test_resnet_reduces_by_32(self, trunk, stride):
        seen = []
        with torch.device("meta"):
            network = trunk().eval()
            network.layer4.register_forward_hook(lambda _, __, out: seen.append(out.shape[2:]))
            network(torch.zeros(1, 3, 8 * stride, 4 * stride))
        assert list(seen[0]) == [8, 4]

    def test_residual_blocks_start_as_the_identity(self):
        torch.manual_seed(0)
        block = ResNet18().eval().layer1[0]
        x = torch.rand(1, 64, 5, 5)
        torch.testing.assert_close(block(x), x)

    def test_vgg_face_sees_the_published_statistics(self):
        """An image of the mean face's colour is all zeros to the trunk; white is 255 less the mean."""
        with torch.device("meta"):
            network = Encoder(VGGFace(), SMALL)
        values = torch.tensor([129.1863, 104.7624, 93.5940])
        mean, std = (torch.tensor(v) for v in (VGGFace.IMAGE_MEAN, VGGFace.IMAGE_STD))
        torch.testing.assert_close((values / 255 - mean) / std, torch.zeros(3), atol=1e-4, rtol=0)
        torch.testing.assert_close((torch.ones(3) - mean) / std, 255 - values)
        assert network.mean.shape == network.std.shape == (3, 1, 1)

    def test_alexnet_240_is_6_by_6_before_the_linear_layers(self):
        with torch.device("meta"):
            network, image = AlexNet(), torch.zeros(1, 3, 240, 240)
            assert network.features(image).shape == (1, 256, 6, 6)
            assert network(image).shape == (1, 4096)

    def test_smallest_image_works_and_one_less_does_not(self):
        with torch.device("meta"):
            network = AlexNet()
            assert network(torch.zeros(1, 3, 63, 63)).shape == (1, 4096)
            with pytest.raises(RuntimeError):
                network(torch.zeros(1, 3, 62, 62))

    def test_mobilenet_trains_on_a_batch_of_one_at_its_smallest(self):
        size = MobileNetV3Large.MIN_SIZE
        assert MobileNetV3Large().train()(torch.rand(1, 3, size, size)).isfinite().all()
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            MobileNetV3Large().train()(torch.rand(1, 3, size - 1, size - 1))

    def test_dropout_as_documented(self):
        with torch.device("meta"):
            for trunk, expected in ((AlexNet(), 0.5), (MobileNetV3Large(), 0.0)):
                layers = [m for m in trunk.modules() if isinstance(m, torch.nn.Dropout)]
                assert layers and all(layer.p == expected for layer in layers)

    def test_squeeze_widths_are_multiples_of_8(self):
        # 72 / 4 = 18 would round to 16, which is more than 10 % below
        assert [networks._divisible_by_8(c // 4) for c in (16, 72, 120, 480, 672, 960)] == [
            *(8, 24, 32, 120, 168, 240)
        ]


class TestCodeHead:
    def test_starts_at_zero(self):
        head = CodeHead(5, SMALL)
        assert head(torch.randn(2, 5)).equal(torch.zeros(2, SMALL.size))

    def test_each_part_lands_in_its_slice_times_its_scale(self):
        scale = {part: 0.5 * (i + 1) for i, part in enumerate(HEAD_PARTS)}
        head = CodeHead(1, SMALL, scale)
        for i, part in enumerate(HEAD_PARTS):
            torch.nn.init.constant_(head.parts[part].bias, 10.0**i)
        code = head(torch.zeros(1, 1))[0]
        where = SMALL.slices
        for i, part in enumerate(HEAD_PARTS):
            expected = 10.0**i * 0.5 * (i + 1)
            if part.startswith("translation"):
                got = code[where["translation"]]
                got = got[2:] if part.endswith("z") else got[:2]
            else:
                got = code[where[part]]
            assert len(got) == head.parts[part].out_features
            assert got.tolist() == [expected] * len(got)

    def test_scale_travels_with_the_weights(self):
        other = CodeHead(2, SMALL)
        other.load_state_dict(CodeHead(2, SMALL, {"rotation": 0.02}).state_dict())
        assert other.scale[SMALL.slices["rotation"]].tolist() == pytest.approx([0.02] * 3)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="output_scale has no part translation; parts are sha"):
            CodeHead(2, SMALL, {"translation": 1.0})
        with pytest.raises(ValueError, match="output_scale of light is 0, expected a positive"):
            CodeHead(2, SMALL, {"light": 0})
        with pytest.raises(ValueError, match="output_scale of light is nan"):
            CodeHead(2, SMALL, {"light": float("nan")})


class TestEncoder:
    def test_first_prediction_is_code_zero(self, mobilenet: Encoder):
        assert mobilenet(torch.rand(2, 3, 80, 80)).equal(torch.zeros(2, SMALL.size))

    def test_sees_a_normalised_image_of_its_input_size(self):
        seen = []
        with torch.device("meta"):
            network = Encoder(MobileNetV3Large(), SMALL, input_size=64).eval()
        network.mean, network.std = (
            torch.tensor(v).view(3, 1, 1)
            for v in (MobileNetV3Large.IMAGE_MEAN, MobileNetV3Large.IMAGE_STD)
        )
        network.trunk.forward = lambda x: (seen.append(x), x.new_zeros(len(x), 1280))[1]
        network.head.to_empty(device="cpu")
        images = torch.tensor([0.485 + 0.229, 0.456 - 0.224, 0.406]).view(1, 3, 1, 1)
        network(images.expand(1, 3, 240, 240))
        assert seen[0].shape == (1, 3, 64, 64)
        torch.testing.assert_close(
            seen[0].mean((0, 2, 3)), torch.tensor([1.0, -1.0, 0.0]), atol=1e-5, rtol=0
        )

    def test_resizing_is_antialiased(self, mobilenet: Encoder):
        """Stripes one pixel wide, reduced four times, look like grey to the trunk."""
        with torch.no_grad():
            seen = []
            handle = mobilenet.trunk.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
            stripes = (torch.arange(256) % 2).float().expand(1, 3, 256, 256)
            mobilenet(stripes)
            handle.remove()
        grey = (0.5 - torch.tensor(MobileNetV3Large.IMAGE_MEAN)) / torch.tensor(
            MobileNetV3Large.IMAGE_STD
        )
        inside = seen[0][0, :, 2:-2, 2:-2]
        # measured 2e-7; without the filter the stripes alias to 0 or 1, over 1.9 away
        assert (inside - grey.view(3, 1, 1)).abs().max() < 0.01

    def test_groups_hold_every_parameter_once(self, mobilenet: Encoder):
        groups = mobilenet.parameter_groups()
        assert list(groups) == ["trunk", *HEAD_PARTS]
        ids = [id(p) for group in groups.values() for p in group]
        assert len(ids) == len(set(ids))
        assert set(ids) == {id(p) for p in mobilenet.parameters()}
        assert [p.shape[0] for p in groups["translation_z"]] == [1, 1]

    @pytest.mark.parametrize("name", ["mobilenet_v3_large", "resnet18"])
    def test_gradients_are_useful(self, name):
        """From random weights, eight images and eight codes are learned by heart."""
        torch.manual_seed(0)
        network = build_encoder(name, SMALL, input_size=None).train()
        images, codes = torch.rand(8, 3, 48, 48), torch.randn(8, SMALL.size)
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        losses = []
        for _ in range(25):
            loss = F.mse_loss(network(images), codes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        # measured 0.006 and 0.009 of the start on one thread of a CPU
        assert losses[-1] < 0.1 * losses[0]

    def test_bfloat16_is_the_trunks_alone(self):
        """Codes, weights and gradients stay float32; they are near those of a float32 trunk."""
        torch.manual_seed(0)
        network, images = build_encoder("compact", SMALL).train(), torch.rand(8, 3, 128, 128)
        for part in network.head.parts.values():
            torch.nn.init.normal_(part.weight, std=0.02)
        seen, codes, gradients = [], [], []
        network.trunk.register_forward_hook(lambda _, x, features: seen.append(features.dtype))
        for network.precision in (torch.float32, torch.bfloat16):
            network.zero_grad()
            code = network(images)
            code.square().sum().backward()
            codes.append(code.detach())
            gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
        assert seen == [torch.float32, torch.bfloat16]
        assert all(value.dtype == torch.float32 for value in (*codes, *gradients))
        error = (codes[1] - codes[0]).norm() / codes[0].norm()
        likeness = F.cosine_similarity(*gradients, dim=0)
        # measured 0.010 and 0.998
        assert 1e-6 < error < 0.03 and likeness > 0.98

    def test_bad_input(self, mobilenet: Encoder):
        with pytest.raises(ValueError, match=r"images are \[3, 64, 64\], expected \[B, 3, H, W\]"):
            mobilenet(torch.rand(3, 64, 64))
        with pytest.raises(ValueError, match=r"images are \[1, 64, 64, 3\]"):
            mobilenet(torch.rand(1, 64, 64, 3))
        with pytest.raises(TypeError, match="torch.uint8, expected floats.*divide bytes by 255"):
            mobilenet(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
        with torch.device("meta"):
            network = Encoder(AlexNet(), SMALL)
            with pytest.raises(ValueError, match="images are 64x40 px, AlexNet needs at least 63"):
                network(torch.rand(1, 3, 40, 64))
            with pytest.raises(ValueError, match="input_size is 32 px, AlexNet needs at least 63"):
                Encoder(AlexNet(), SMALL, input_size=32)


class TestBuildEncoder:
    def test_defaults(self):
        with torch.device("meta"):
            network = build_encoder("alexnet")
            assert network.input_size is None
            assert network.head.scale.shape == (257,)
            assert build_encoder("mobilenet_v3_large").input_size == 128
            assert build_encoder("compact").input_size == 128
            assert build_encoder("mobilenet_v3_large", input_size=None).input_size is None

    def test_dropout_is_passed_on(self):
        with torch.device("meta"):
            assert build_encoder("alexnet", dropout=0.25).trunk.classifier[0].p == 0.25

    def test_seed_decides(self):
        states = []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            states.append(MobileNetV3Large().state_dict()["classifier.0.weight"])
        assert states[0].equal(states[1]) and not states[0].equal(states[2])

    def test_bad_input(self):
        with pytest.raises(
            ValueError, match="unknown encoder 'resnet', expected one of alexnet, vgg_face, res"
        ):
            build_encoder("resnet")
        with pytest.raises(ValueError, match="input_size is 'big', expected pixels"):
            build_encoder("alexnet", input_size="big")


class _Hostile:
    """Pickled, it makes a folder when it is loaded by a reader that runs what it finds."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trap),)


class TestWeights:
    def test_file_with_vgg_faces_own_names(self, tmp_path: Path, monkeypatch):
        """A network as narrow as can be, saved under the published names, comes back the same."""
        monkeypatch.setattr(networks, "_VGG_16", tuple(min(c, 2) for c in networks._VGG_16))
        monkeypatch.setattr(torch.nn.Linear, "__init__", _narrow_linear(torch.nn.Linear.__init__))
        torch.manual_seed(0)
        trunk, other = VGGFace(), VGGFace()
        own = {ours: theirs for theirs, ours in VGGFace.OTHER_NAMES.items()}
        state = {
            f"{own[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value
            for key, value in trunk.state_dict().items()
        }
        save_file({**state, "fc8.weight": torch.zeros(9, 3)}, tmp_path / "vgg.safetensors")
        room.load_trunk_weights(other, tmp_path / "vgg.safetensors")
        for key, value in trunk.state_dict().items():
            assert value.equal(other.state_dict()[key])

    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_round_trip(self, weights: dict, tmp_path: Path, caplog, suffix: str):
        path = tmp_path / f"weights{suffix}"
        if suffix == ".pth":
            torch.save(weights, path)
        else:
            save_file(weights, path)
        with caplog.at_level(logging.INFO, logger="mofa_nvdr.networks.encoder"):
            network = build_encoder("mobilenet_v3_large", SMALL, weights=path)
        state = network.trunk.state_dict()
        assert all(value.equal(weights[key]) for key, value in state.items())
        assert (
            f"{path}: left out the classification layer (classifier.3.bias [1000], cl"
            in caplog.text
        )
        assert network.head(torch.rand(1, 1280)).equal(torch.zeros(1, SMALL.size))

    def test_without_classification_layer_and_counters(self, weights: dict, tmp_path: Path):
        kept = {
            key: value
            for key, value in weights.items()
            if not key.startswith("classifier.3") and not key.endswith("num_batches_tracked")
        }
        save_file(kept, tmp_path / "w.safetensors")
        trunk = MobileNetV3Large()
        room.load_trunk_weights(trunk, tmp_path / "w.safetensors")
        assert trunk.state_dict()["features.0.0.weight"].equal(weights["features.0.0.weight"])

    def test_all_differences_in_one_line(self, weights: dict, tmp_path: Path):
        wrong = dict(weights)
        del wrong["features.0.0.weight"]
        for i in range(9):
            wrong[f"extra.{i}"] = torch.zeros(1)
        wrong["classifier.0.weight"] = torch.zeros(2, 2)
        wrong["classifier.0.bias"] = torch.full((1280,), float("nan"))
        path = tmp_path / "wrong.safetensors"
        save_file(wrong, path)
        with pytest.raises(ValueError) as error:
            build_encoder("mobilenet_v3_large", SMALL, weights=path)
        assert str(error.value) == (
            f"{path}: not the weights of MobileNetV3Large; 1 missing: features.0.0.weight; "
            "9 unexpected: extra.0, extra.1, extra.2, extra.3, extra.4, extra.5, extra.6, extra.7, "
            "extra.8; 1 of another shape: classifier.0.weight [2, 2] instead of [1280, 960]; "
            "1 not finite: classifier.0.bias"
        )

    def test_another_network(self, weights: dict, tmp_path: Path):
        path = tmp_path / "mobilenet.safetensors"
        save_file(weights, path)
        with torch.device("meta"):
            trunk = AlexNet()
        with pytest.raises(ValueError, match="not the weights of AlexNet; 14 missing: .*unexpecte"):
            room.load_trunk_weights(trunk, path)

    def test_unreadable_files(self, tmp_path: Path):
        def load(name: str) -> None:
            room.load_trunk_weights(MobileNetV3Large(), tmp_path / name)

        with pytest.raises(ValueError, match=r"none\.pth: no such weights file$"):
            load("none.pth")
        for name in ("bad.pth", "bad.safetensors", "bad.onnx"):
            (tmp_path / name).write_bytes(b"no tensors in here" * 9)
        with pytest.raises(ValueError, match=r"bad\.pth: not a file of plain tensors, or damaged"):
            load("bad.pth")
        with pytest.raises(ValueError, match=r"bad\.safetensors: cannot read the weights: "):
            load("bad.safetensors")
        with pytest.raises(ValueError, match=r"bad\.onnx: unknown kind.*\.safetensors or \.pth"):
            load("bad.onnx")

    def test_pickled_code_is_not_run(self, tmp_path: Path, capsys):
        """Through the function and through the command; a plain torch.load would make the folder."""
        trap, path = tmp_path / "trap", tmp_path / "code.pth"
        torch.save({"features.0.0.weight": _Hostile(trap)}, path)
        with pytest.raises(ValueError, match="not a file of plain tensors") as error:
            room.load_trunk_weights(MobileNetV3Large(), path)
        assert "\n" not in str(error.value)
        options = ["--encoder.weights", str(path), "--out", str(tmp_path / "run")]
        assert main(["train", "--config", "smoke", *options]) == 2
        said = capsys.readouterr().err.strip()
        assert said.startswith(f"mofa-nvdr: {path}: not a file of plain tensors")
        assert len(said.splitlines()) == 1
        assert not trap.exists() and not (tmp_path / "run").exists()
        torch.load(path, weights_only=False)
        assert trap.exists()

    def test_another_pickle_protocol_is_no_warning(self, tmp_path: Path):
        """torch warns of it, and may then read it or not; what counts is said in one line."""
        torch.save({"other": torch.zeros(1)}, tmp_path / "four.pth", pickle_protocol=4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(ValueError, match="not (the weights of|a file of plain tensors)"):
                room.load_trunk_weights(MobileNetV3Large(), tmp_path / "four.pth")
        assert not caught

    def test_every_key_is_listed(self, weights: dict, tmp_path: Path):
        """However many there are."""
        save_file(weights, tmp_path / "mobilenet.safetensors")
        with torch.device("meta"):
            trunk = AlexNet()
        with pytest.raises(ValueError) as error:
            room.load_trunk_weights(trunk, tmp_path / "mobilenet.safetensors")
        said = str(error.value)
        assert "..." not in said and "\n" not in said
        words = set(re.split("[,;:]? ", said))
        own = trunk.state_dict().keys()
        assert own - weights.keys() <= words
        assert {k for k in weights.keys() - own if not k.startswith("classifier.6.")} <= words

    def test_tensors_that_are_no_weights(self, tmp_path: Path):
        """Each kind that a .pth may hold is named with the others; none ends in torch's own words."""
        weights = {
            "features.0.weight": torch.zeros(64, 3, 11, 11, dtype=torch.int64),
            "features.0.bias": torch.zeros(64, dtype=torch.complex64),
            "features.3.bias": torch.zeros(192).to_sparse(),
            "features.6.bias": torch.full((384,), torch.inf),
            "classifier.1.weight": torch.zeros(1).expand(10**6, 10**9),  # a petabyte, on paper
        }
        torch.save(weights, tmp_path / "odd.pth")
        with torch.device("meta"):
            trunk = AlexNet()
        with pytest.raises(ValueError) as error:
            room.load_trunk_weights(trunk, tmp_path / "odd.pth")
        said = str(error.value)
        assert "9 missing: " in said
        assert (
            "3 not plain numbers: features.0.weight (int64), features.0.bias (complex64), "
            "features.3.bias (sparse_coo float32)"
        ) in said
        assert "1 of another shape: classifier.1.weight [1000000, 1000000000] instead of" in said
        assert said.endswith("1 not finite: features.6.bias")

    def test_keys_that_are_no_names(self, tmp_path: Path):
        torch.save({7: torch.zeros(1)}, tmp_path / "numbers.pth")
        with pytest.raises(ValueError, match="expected a state dict"):
            room.load_trunk_weights(MobileNetV3Large(), tmp_path / "numbers.pth")

    @pytest.mark.parametrize("classes", [1000, 2622])
    def test_classes_of_imagenet_in_vgg_face(self, tmp_path: Path, monkeypatch, caplog, classes):
        """torchvision's VGG-16 has the same names and shapes, but expects another input."""
        monkeypatch.setattr(networks, "_VGG_16", tuple(min(c, 2) for c in networks._VGG_16))
        monkeypatch.setattr(torch.nn.Linear, "__init__", _narrow_linear(torch.nn.Linear.__init__))
        trunk = VGGFace()
        last = {
            "classifier.6.weight": torch.zeros(classes, 3),
            "classifier.6.bias": torch.zeros(classes),
        }
        save_file({**trunk.state_dict(), **last}, tmp_path / "vgg.safetensors")
        with caplog.at_level(logging.INFO, logger="mofa_nvdr.networks.encoder"):
            room.load_trunk_weights(trunk, tmp_path / "vgg.safetensors")
        assert f"(classifier.6.bias [{classes}], classifier.6.weight [{classes}, 3])" in caplog.text
        warned = "1000 classes: these look like ImageNet's weights of VGG-16" in caplog.text
        assert warned == (classes == 1000)

    def test_note_on_the_command_line(self, weights: dict, tmp_path: Path, capsys):
        save_file(weights, tmp_path / "w.safetensors")
        options = ["--encoder.weights", str(tmp_path / "w.safetensors"), "--steps", "1"]
        assert main(["train", "--config", "smoke", *options, "--out", str(tmp_path / "run")]) == 0
        notes = [line for line in capsys.readouterr().err.splitlines() if "note: " in line]
        assert len(notes) == 1 and "left out the classification layer" in notes[0]

    def test_not_a_state_dict(self, tmp_path: Path):
        torch.save({"state_dict": {"a": torch.zeros(1)}, "epoch": 3}, tmp_path / "run.pth")
        with pytest.raises(ValueError, match="expected a state dict.*save `network.state_dict"):
            room.load_trunk_weights(MobileNetV3Large(), tmp_path / "run.pth")
