"""Augmentation of training photos: off unless asked for; every draw is by seed, round, tuple and photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from sfm2tuples.compute.random_draws import draw, item_numbers
from sfm2tuples.errors import UsageError

_ASPECT = 4 / 3
"""A crop is at most so much wider or taller than the photo."""


@dataclass(frozen=True)
class Augmentation:
    """How photos are changed before the network sees them in training; never in mining, validation or test."""

    flip: float = 0.0
    """Probability that a tuple, or a batch, is mirrored, all its photos together: a mirrored building is another."""
    colour: float = 0.0
    """Brightness, contrast and saturation of each photo are multiplied by 1 - colour to 1 + colour."""
    crop: float = 1.0
    """Least share of a photo's area that a random crop keeps; the crop is resized to the photo's size."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        for name, low in (("flip", 0.0), ("colour", 0.0), ("crop", 0.05)):
            if not low <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be from {low:g} to 1, not {getattr(self, name)}")

    @property
    def is_off(self) -> bool:
        """Whether photos stay as they are."""
        return self.flip == 0 and self.colour == 0 and self.crop == 1


@dataclass(frozen=True)
class TupleChange:
    """How the photos of one tuple are changed; travels to whichever process decodes them."""

    augmentation: Augmentation
    seed: int
    round: int
    tuple_name: str
    """What tells the tuple, or the batch, apart; its photos are mirrored together."""

    def __call__(self, photo: np.ndarray, photo_name: str) -> np.ndarray:
        """Change one photo (H, W, 3) uint8: the same for the same fields and name, wherever and in whatever order."""
        wanted = self.augmentation
        if wanted.is_off:
            return photo
        image = Image.fromarray(photo)
        if wanted.crop < 1:
            image = _crop(image, wanted.crop, self._luck("crop", photo_name, count=4))
        if wanted.colour > 0:
            image = _colour(image, wanted.colour, self._luck("colour", photo_name, count=3))
        if wanted.flip > 0 and self._luck("flip", count=1)[0] < wanted.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.array(image)

    def _luck(self, purpose: str, *photo: str, count: int) -> np.ndarray:
        """Numbers in [0, 1) that the tuple and, where it is given, the photo stand for: (count,) float64."""
        numbers = [item_numbers([name]) for name in (self.tuple_name, *photo)]
        which = item_numbers([str(i) for i in range(count)])
        return (draw(self.seed, self.round, purpose, *numbers, which) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _crop(image: Image.Image, least: float, luck: np.ndarray) -> Image.Image:
    """A crop of random area, aspect ratio and place, resized to the size of the whole."""
    width, height = image.size
    area = least + (1 - least) * luck[0]
    stretch = _ASPECT ** (luck[1] - 0.5)
    crop_width = min(width, max(1, round(width * area**0.5 * stretch)))
    crop_height = min(height, max(1, round(height * area**0.5 / stretch)))
    left = int(luck[2] * (width - crop_width + 1))
    top = int(luck[3] * (height - crop_height + 1))
    box = (left, top, left + crop_width, top + crop_height)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=box)


def _colour(image: Image.Image, strength: float, luck: np.ndarray) -> Image.Image:
    """Brightness, contrast and saturation, in this order."""
    for enhance, value in zip((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), luck, strict=True):
        image = enhance(image).enhance(float(1 + strength * (2 * value - 1)))
    return image
