"""Render any mesh under two shaders, and turn it until it shows a given picture.

python examples/renderer_only.py OUT.png
"""

from __future__ import annotations

import sys

import torch

from mofa_nvdr import Camera, FaceModel, FaceRenderer, Phong, PhongLight, light_presets
from mofa_nvdr.render.pictures import sheet, to_uint8, write_png
from mofa_nvdr.scene.pose import axis_angle_to_matrix

model = FaceModel.load("default")  # here the built-in face; any vertices and triangles will do
camera = Camera(image_size=160)
turn = torch.tensor([[0.0, 0.5, 0.0]])  # axis-angle, radians


def place(rotation: torch.Tensor) -> torch.Tensor:
    """The mesh in camera space, mm: x right, y up, looking down -z."""
    matrix = axis_angle_to_matrix(rotation)
    return camera.to_camera(model.mean_shape[None], matrix, torch.zeros(1, 3))


# Spherical-harmonics light, per pixel; the lights of a Phong shader are points in camera space.
soft = FaceRenderer(camera)
light = light_presets()["key_left"][None]
target = soft(place(turn), model.triangles, model.mean_albedo, light)
lamp = PhongLight(
    positions=torch.tensor([[[-400.0, 300.0, -300.0]]]),
    colors=torch.full((1, 1, 3), 0.8),
    ambient=torch.full((1, 3), 0.3),
    specular=torch.full((1, 3), 0.25),
    shininess=torch.tensor([20.0]),
)
glossy = FaceRenderer(camera, shader=Phong())
shiny = glossy(place(turn), model.triangles, model.mean_albedo, lamp)

# Gradients reach the pose: find the turn again from the picture alone.
guess = torch.tensor([[0.0, 0.3, 0.0]], requires_grad=True)
optimizer = torch.optim.Adam([guess], lr=0.04)
for _ in range(25):
    drawn = soft(place(guess), model.triangles, model.mean_albedo, light)
    loss = (drawn.image - target.image).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"turned by {guess[0, 1].item():.2f} rad, the picture was made with {turn[0, 1].item():.2f}")

if len(sys.argv) > 1:
    rows = torch.cat([face.over(1.0) for face in (target, shiny, drawn)]).detach()
    write_png(sys.argv[1], sheet(to_uint8(rows), columns=3))
