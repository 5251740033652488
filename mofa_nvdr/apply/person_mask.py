"""Where a photograph shows the skin and hair of a person whose face is known: colours, places, edges.

A mixture of Gaussians in CIE Lab for skin, hair, clothes and background, each with a prior of where it can be
about the face, fitted by expectation and maximisation (as GrabCut's colours are; Rother et al. 2004), then
drawn along the photograph's edges by a guided filter (He et al. 2010).
"""

from __future__ import annotations

import torch
from torch import Tensor

SKIN, HAIR, CLOTH, BACKGROUND = range(4)
_COMPONENTS = (3, 3, 3, 4)  # Gaussians of each
_ROUNDS = 6
_SPREAD = torch.tensor([6.0, 3.0, 3.0])  # least deviations of L, a, b
_ANY = torch.tensor([40.0, 30.0, 30.0])  # those of any colour
_FAR = 14.0  # squared deviations from which a colour is none of a class
_MOST_PIXELS = 12_000


@torch.no_grad()
def person_weight(
    picture: Tensor, face: Tensor, clear: Tensor, distance: Tensor, across: Tensor, below: Tensor
) -> Tensor:
    """How far each pixel shows skin or hair of the person.

    Args:
        picture: [3, H, W] sRGB in [0, 1].
        face: [H, W] 1 where the face's mesh is.
        clear: [H, W] how far the face is seen there, 0 to 1.
        distance: [H, W] to the face's mesh, in faces.
        across: [H, W] from the line of nose and chin, in faces.
        below: [H, W] below the chin along that line, in faces; above it negative.

    Returns:
        [H, W] in [0, 1]; 1 on the face.
    """
    from kornia.color import rgb_to_lab  # here: importing kornia takes a second

    colors = rgb_to_lab(picture[None])[0].flatten(1).T  # [H W, 3]
    prior = _places(face, distance, across, below).flatten(1).T  # [H W, 4]
    step = max(1, len(colors) // _MOST_PIXELS)
    some, where = colors[::step], prior[::step]
    seeds = _certain(face, clear, distance, below).flatten(1).T[::step]
    mixture = _Mixture(some, seeds)
    # A backdrop around a bald head is no hair: what has the background's colours is none to begin with.
    seeds[:, HAIR] *= mixture.unlike(some, BACKGROUND)
    mixture = _Mixture(some, seeds)
    inside = face.flatten()[::step, None] > 0
    for _ in range(_ROUNDS):
        mixture.improve(some, where, inside)
    posterior = mixture.posterior(colors, prior)
    person = posterior[:, SKIN] + posterior[:, HAIR]
    return torch.where(face > 0, 1.0, person.view_as(face))


def along_edges(weight: Tensor, picture: Tensor, radius: float) -> Tensor:
    """A weight [H, W] drawn along the edges of a picture [3, H, W] by a guided filter of a radius in px."""
    from kornia.filters import guided_blur

    side = 2 * max(1, round(radius)) + 1
    # Reflection needs more pixels than the window's half.
    side = min(side, 2 * (min(weight.shape) - 1) // 2 * 2 - 1)
    if side < 3:
        return weight
    out = guided_blur(picture[None], weight[None, None], side, 1e-3)
    return out[0, 0].clamp(0, 1)


def _places(face: Tensor, distance: Tensor, across: Tensor, below: Tensor) -> Tensor:
    """Priors [4, H, W] of the classes by place."""

    def near(reach: float) -> Tensor:
        return (-(distance / reach).square()).exp()

    def step(value: Tensor, width: float) -> Tensor:
        return (value / width).sigmoid()

    neck = step(0.42 - across.abs(), 0.06) * step(0.75 - below, 0.08) * step(below + 0.35, 0.08)
    skin = 0.6 * torch.maximum(near(0.18), neck)
    above = step(0.05 - below, 0.06)
    hair = above * near(0.5) + 0.25 * (1 - above) * near(0.35)
    cloth = 0.8 * step(below + 0.05, 0.06) * step(distance - 0.03, 0.01)
    background = 0.1 + 0.9 * (1 - near(0.3)) * step(0.65 - below, 0.15)
    outside = torch.stack([skin, hair, cloth, background])
    inside = torch.tensor([1.0, 0.15, 0, 0]).view(4, 1, 1)
    prior = torch.where(face > 0, inside, outside)
    return prior / prior.sum(0)


def _certain(face: Tensor, clear: Tensor, distance: Tensor, below: Tensor) -> Tensor:
    """Where each class is to begin with, [4, H, W]."""
    skin = face * clear
    hair = ((distance > 0.05) & (distance < 0.3) & (below < -0.2)).float()
    cloth = (below > 0.35).float()
    background = ((distance > 0.6) & (below < 0.1)).float()
    return torch.stack([skin, hair, cloth, background])


class _Mixture:
    """Gaussians of four classes.

    Args:
        colors: [N, 3].
        seeds: [N, 4] how far each pixel starts in each class.
    """

    def __init__(self, colors: Tensor, seeds: Tensor) -> None:
        shares = []
        for number, count in enumerate(_COMPONENTS):
            weight = seeds[:, number]
            order = colors[:, 0].argsort()
            # Bands of brightness of equal weight.
            rank = torch.zeros_like(weight)
            total = weight[order].cumsum(0)
            rank[order] = total / total[-1].clamp(min=1e-6)
            band = (rank * count).long().clamp(max=count - 1)
            shares += [weight * (band == k) for k in range(count)]
        self._class = torch.tensor([k for k, n in enumerate(_COMPONENTS) for _ in range(n)])
        self._fit(colors, torch.stack(shares, 1))

    def _fit(self, colors: Tensor, shares: Tensor) -> None:
        # One pixel of any colour in each: a class without pixels, as a bald head's hair, is wide and thin.
        total = shares.sum(0) + 1  # [K]
        self._mean = (shares.T @ colors + colors.mean(0)) / total[:, None]
        away = colors[:, None] - self._mean  # [N, K, 3]
        spread = torch.einsum("nk,nki,nkj->kij", shares, away, away) + torch.diag(_ANY.square())
        self._spread = spread / total[:, None, None] + torch.diag(_SPREAD.square())
        ofclass = torch.zeros(len(_COMPONENTS)).index_add_(0, self._class, total)
        self._share = total / ofclass[self._class]

    def _likely(self, colors: Tensor, prior: Tensor) -> Tensor:
        """Joint probabilities [N, K] of components and colours, up to a factor of each pixel."""
        away = colors[:, None] - self._mean
        solved = torch.einsum("nki,kij->nkj", away, torch.linalg.inv(self._spread))
        log = -0.5 * (solved * away).sum(-1) - 0.5 * torch.logdet(self._spread)
        log = log + self._share.log()
        log = log - log.amax(1, keepdim=True)
        return log.exp() * prior[:, self._class]

    def improve(self, colors: Tensor, prior: Tensor, inside: Tensor) -> None:
        """A round of expectation and maximisation.

        Skin is what the face, `inside` [N, 1], says it is, and hair never learns the background's colours.
        """
        joint = self._likely(colors, prior)
        shares = joint / joint.sum(1, keepdim=True).clamp(min=1e-9)
        shares = torch.where((self._class == SKIN) & ~inside, 0.0, shares)
        unlike = self.unlike(colors, BACKGROUND)[:, None]
        self._fit(colors, torch.where(self._class == HAIR, shares * unlike, shares))

    def unlike(self, colors: Tensor, number: int) -> Tensor:
        """[N], 0 where a colour is one of a class, 1 where it is none."""
        away = colors[:, None] - self._mean[self._class == number]
        solved = torch.einsum(
            "nki,kij->nkj", away, torch.linalg.inv(self._spread[self._class == number])
        )
        nearest = (solved * away).sum(-1).amin(1)
        return ((nearest - _FAR) / 3).sigmoid()

    def posterior(self, colors: Tensor, prior: Tensor) -> Tensor:
        """Probabilities [N, 4] of the classes."""
        joint = self._likely(colors, prior)
        ofclass = torch.zeros(len(colors), len(_COMPONENTS)).index_add_(1, self._class, joint)
        return ofclass / ofclass.sum(1, keepdim=True).clamp(min=1e-9)
