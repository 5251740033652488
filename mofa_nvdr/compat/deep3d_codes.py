"""Deep3DFaceRecon's codes and networks in this package: `load_deep3d_checkpoint`, `code_from_deep3d`.

    encoder = load_deep3d_checkpoint("epoch_20.pth")
    model = FaceModel.load("deep3d.safetensors")  # mofa-nvdr model import deep3d BFM_model_front.mat
    code = code_from_deep3d(encoder(crops), model)  # a FaceCode: to decode, relight, export
    face = FaceDecoder(model, camera=deep3d_camera())(code)

Source: https://github.com/sicxu/Deep3DFaceRecon_pytorch, `models/networks.py` and `models/bfm.py` (Deng et
al. 2019). 3DDFA-V3's codes are the same.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mofa_nvdr.compat.conventions import convert_light
from mofa_nvdr.compat.inputs import floating
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.networks.trunks import ResNet50
from mofa_nvdr.networks.weights import fill_trunk, read_weights
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.lighting import AMBIENT_OFFSET
from mofa_nvdr.scene.pose import axis_angle_to_matrix, matrix_to_axis_angle
from mofa_nvdr.system.device import without_autocast

PARTS = {"id": 80, "exp": 64, "tex": 80, "angle": 3, "gamma": 27, "trans": 3}
"""Deep3D's code vector: the parts in their order, and their sizes."""
_SIZE = sum(PARTS.values())
_HEADS = (80, 64, 80, 3, 27, 2, 1)  # its last layers: trans is cut in two
_DISTANCE = 1000.0  # mm, from the camera to where a translation of zero puts the head
_DECIMETRE = 100.0


def deep3d_camera() -> Camera:
    """Its camera: 1015 px at 224 x 224."""
    return Camera(image_size=224, focal=1015.0)


def code_from_deep3d(
    coeffs: Tensor, model: FaceModel, camera: Camera | None = None, origin: Tensor | None = None
) -> FaceCode:
    """Deep3D's codes as ours, of the same face model.

    shape, expression, albedo = id, exp, tex;
    R = Rz(c) Ry(b) Rx(a) of the angles (a, b, c), as an axis-angle vector;
    translation = 100 trans + (0, 0, -1000) - R origin - camera.position, mm;
    light = `convert_light` of gamma, less the ambient offset of our codes.

    Args:
        coeffs: [B, 257]: id 80, exp 64, tex 80, angle 3, gamma 27, trans 3.
        model: imported from Deep3D's own BFM_model_front.mat, with all modes.
        camera: whose `position` is left out of translations; None: `deep3d_camera()`.
        origin: [3] mm, where Deep3D's origin is in the model; None: the mean of its vertices, as there.

    Returns:
        The code; differentiable in all of coeffs but the angles.

    Raises:
        ValueError: another shape or device, or a model with other numbers of modes.
        TypeError: not a tensor of floats.
    """
    floating("code_from_deep3d", "coeffs", coeffs)
    if coeffs.ndim != 2 or coeffs.shape[1] != _SIZE:
        raise ValueError(f"code_from_deep3d: coeffs is {list(coeffs.shape)}, expected [B, {_SIZE}]")
    _check_model("code_from_deep3d", model)
    if coeffs.device != model.mean_shape.device:
        raise ValueError(
            f"code_from_deep3d: coeffs is on {coeffs.device}, but the face model is on "
            f"{model.mean_shape.device}; move both to one device"
        )
    parts = dict(zip(PARTS, coeffs.split(list(PARTS.values()), dim=1)))
    rotation = _euler_matrix(parts["angle"])
    shift = _DECIMETRE * parts["trans"] - _turned_origin(rotation, model, camera, origin)
    light = convert_light(parts["gamma"], "deep3d")
    return FaceCode(
        shape=parts["id"],
        expression=parts["exp"],
        albedo=parts["tex"],
        rotation=matrix_to_axis_angle(rotation),
        translation=shift,
        light=light - _ambient(light),
    )


def code_to_deep3d(
    code: FaceCode, model: FaceModel, camera: Camera | None = None, origin: Tensor | None = None
) -> Tensor:
    """Our codes as Deep3D's: the inverse of `code_from_deep3d`.

    Args:
        code: of the model.
        model: as there, like the others.
        camera: as there.
        origin: as there.

    Returns:
        [B, 257]; the middle angle is in [-pi/2, pi/2].

    Raises:
        ValueError: a model with other numbers of modes, or a code of another.
    """
    _check_model("code_to_deep3d", model)
    model.layout.check(code)
    rotation = axis_angle_to_matrix(code.rotation)
    shift = code.translation + _turned_origin(rotation, model, camera, origin)
    angles = [
        torch.atan2(rotation[:, 2, 1], rotation[:, 2, 2]),
        torch.asin((-rotation[:, 2, 0]).clamp(-1, 1)),
        torch.atan2(rotation[:, 1, 0], rotation[:, 0, 0]),
    ]
    gamma = convert_light(code.light + _ambient(code.light), "ours", "deep3d")
    parts = [code.shape, code.expression, code.albedo, torch.stack(angles, 1), gamma]
    return torch.cat([*parts, shift / _DECIMETRE], dim=1)


class Deep3dEncoder(nn.Module):
    """Its network: ResNet-50 and seven linear layers, as one.

    Images are [B, 3, 224, 224], RGB in [0, 1], framed as its crops are (five landmarks to a template), and
    go in as they are. Codes are its own: `code_from_deep3d` converts them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResNet50()
        self.head = nn.Linear(self.trunk.NUM_FEATURES, _SIZE)

    def forward(self, images: Tensor) -> Tensor:
        """Codes [B, 257].

        Raises:
            ValueError: not [B, 3, H, W] of 32 pixels or more, or on another device than the network.
            TypeError: not a tensor of floats, or of another type than the network's.
        """
        floating("Deep3dEncoder", "images", images)
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < 32:
            raise ValueError(
                f"Deep3dEncoder: images are {list(images.shape)}, expected [B, 3, 224, 224]"
            )
        weight = self.head.weight
        if images.device != weight.device:
            raise ValueError(
                f"Deep3dEncoder: images are on {images.device}, but the network is on {weight.device}; "
                "move both to one device"
            )
        if images.dtype != weight.dtype and not torch.is_autocast_enabled(images.device.type):
            raise TypeError(
                f"Deep3dEncoder: images are {images.dtype}, expected {weight.dtype} (from the network)"
            )
        features = self.trunk(images)
        # Outputs are radians and decimetres: half precision has three digits.
        with without_autocast(images.device.type):
            codes: Tensor = self.head(features.to(weight.dtype))
        return codes


def load_deep3d_checkpoint(path: str | Path) -> Deep3dEncoder:
    """The encoder of a checkpoint `epoch_*.pth` of Deep3DFaceRecon_pytorch; no pickled code is run.

    Args:
        path: a file with an entry "net_recon".

    Returns:
        On the CPU, in eval mode.

    Raises:
        ValueError: the file cannot be read, is another network's, or has another last layer.
    """
    weights = {
        key.removeprefix("module."): value for key, value in read_weights(path, "net_recon").items()
    }
    encoder = Deep3dEncoder()
    trunk = {
        key.removeprefix("backbone."): value
        for key, value in weights.items()
        if key.startswith("backbone.")
    }
    fill_trunk(encoder.trunk, trunk, path)
    for name, target in encoder.head.named_parameters():
        keys = [f"final_layers.{k}.{name}" for k in range(len(_HEADS))]
        missing = [key for key in keys if key not in weights]
        if missing:
            raise ValueError(
                f"{path}: no {missing[0]} in net_recon; expected seven last layers (a network without "
                "use_last_fc)"
            )
        layers = [weights[key].flatten(1) if name == "weight" else weights[key] for key in keys]
        for key, layer, size in zip(keys, layers, _HEADS):
            if layer.shape != (size, *target.shape[1:]):
                raise ValueError(
                    f"{path}: {key} is {list(weights[key].shape)}, expected {size} outputs of "
                    f"{encoder.head.in_features} features"
                )
        with torch.no_grad():
            target.copy_(torch.cat(layers))
    return encoder.eval()


def _check_model(who: str, model: FaceModel) -> None:
    layout = model.layout
    found = (layout.num_shape, layout.num_expression, layout.num_albedo)
    if found != (80, 64, 80):
        raise ValueError(
            f"{who}: the face model has {found[0]}, {found[1]} and {found[2]} modes of shape, expression and "
            "albedo, expected 80, 64 and 80; import BFM_model_front.mat with all of them"
        )


def _turned_origin(
    rotation: Tensor, model: FaceModel, camera: Camera | None, origin: Tensor | None
) -> Tensor:
    """What stands between Deep3D's translation and ours, mm [B, 3]."""
    place = model.mean_shape.mean(0) if origin is None else origin
    home = rotation.new_tensor((camera or deep3d_camera()).position)
    away = rotation.new_tensor([0.0, 0.0, _DISTANCE])
    return away + rotation @ place.to(rotation) + home


def _euler_matrix(angles: Tensor) -> Tensor:
    """Rz(c) Ry(b) Rx(a) of (a, b, c), [B, 3] -> [B, 3, 3]."""
    (a, b, c), zero = angles.unbind(1), torch.zeros_like(angles[:, 0])
    x, y, z = (
        axis_angle_to_matrix(torch.stack(axis, dim=1))
        for axis in ((a, zero, zero), (zero, b, zero), (zero, zero, c))
    )
    return z @ y @ x


def _ambient(light: Tensor) -> Tensor:
    """The ambient offset in the shape of a light."""
    offset = light.new_zeros(9, 1)
    offset[0] = AMBIENT_OFFSET
    return offset
