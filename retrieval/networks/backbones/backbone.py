"""What every backbone is: the convolutional part of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from retrieval.networks.description import IMAGENET_MEAN, IMAGENET_STD, Colour

Link = Sequence[Callable[[Tensor], Tensor]]
"""The stem or a block of a backbone, as what is done one after the other."""


class Inner(NamedTuple):
    """What a backbone has of some photos before one of its blocks."""

    values: Tensor
    """(B, ...): a map or tokens."""
    size: tuple[int, int]
    """Height and width of the photos in pixels, as the backbone saw them."""
    block: int
    """Which block comes next, from 1; one more than there are: none. 0 stands for the stem."""


class Backbone(nn.Module):
    """A network's convolutional part: (B, 3, H, W) normalised colours to a map (B, channels, h, w).

    The map is not negative, but for those of timm that do not end in a ReLU. A family of backbones is a module of this
    package, with a function ``build(name)``, and a line in `networks.by_name.BACKBONES`.
    """

    name: str
    """The name `--backbone` takes."""
    channels: int
    """K, the channels of the map and so the dimension of the descriptor."""
    smallest: int
    """The least side of a photo, in pixels, that gives a map of at least one cell."""
    classifier: str | tuple[str, ...] = ()
    """Prefix, or several, of the weights that a file has beyond this part."""
    published_as: str = ""
    """The word of `--weights` for the weights that its makers publish; empty where there are none."""
    published_url: str = ""
    """Where a state dict of them lies; without one, `load_published` fetches them."""
    published_in: str = ""
    """The package that holds a file of them; empty where there is none."""

    has_class_token: bool = False
    """Whether `with_token` has a token of the network's own, in place of the map's mean."""
    enters_at_blocks: bool = True
    """Whether `before_block` and `from_block` take every block; else only what comes out of the last one."""
    checkpoints: bool = False
    """See `set_grad_checkpointing`."""

    @property
    def colours(self) -> tuple[Colour, Colour]:
        """Mean and deviation of the colours that it was trained with, RGB in 0..1."""
        return IMAGENET_MEAN, IMAGENET_STD

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, channels, h, w)."""
        return self.from_block(self.before_block(x, 0))

    def with_token(self, x: Tensor) -> Tensor:
        """The map with a vector of the whole photo, its token: (B, 2 channels, h, w).

        The second half of the channels is the token, the same in every cell, so that a part of the map has it too. A
        ViT's is its class token. Any other backbone has the mean of its map for it.
        """
        return self.from_block(self.before_block(x, 0), token=True)

    def links(self) -> list[Link]:
        """The stem, then each block of `block_names`; each takes what the one before gives."""
        raise NotImplementedError(f"{self.name} has no links")

    def before_block(self, x: Tensor, block: int) -> Inner:
        """What comes to a block of photos (B, 3, H, W), normalised; see `Inner`."""
        return Inner(self._through(x, self.links()[:block]), (x.shape[-2], x.shape[-1]), block)

    def from_block(self, inner: Inner, token: bool = False) -> Tensor:
        """The map of what `before_block` gave, or the map with its token."""
        return self.finished(self._through(inner.values, self.links()[inner.block :]), inner.size, token)

    def finished(self, values: Tensor, size: tuple[int, int], token: bool) -> Tensor:
        """The map, or the map with its token, of what comes out of the last block for photos of a size."""
        return beside_token(values, values.mean(dim=(-2, -1))) if token else values

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep of each block only what comes into it, and go through the block again for the gradient.

        Less memory, and the time of one more forward; the gradients are the same. timm has the name.

        Raises
        ------
        UsageError
            The backbone cannot.
        """
        self.checkpoints = enable

    def _through(self, x: Tensor, links: Sequence[Link]) -> Tensor:
        for link in links:
            if self.checkpoints and torch.is_grad_enabled() and (x.requires_grad or _learns(link)):
                # Blocks draw no random numbers, so that there is no state to go back to.
                x = checkpoint(_all_of, link, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x = _all_of(link, x)
        return x

    def block_names(self) -> list[tuple[str, ...]]:
        """Its blocks from the photo on: names of modules or parameters, which learn or stay together.

        The first name is what people call the block; what stands behind a block before the next one, such as a norm,
        is named with it. What no block names comes before the first, and is the stem.
        """
        return [(name,) for name, child in self.named_children() if any(True for _ in child.parameters())]

    def published_file(self) -> Path | None:
        """The file of them that lies on this machine already; None where none does."""
        return None

    def load_published(self) -> None:
        """Fetch the published weights where they have no URL; see `published_as`."""
        raise NotImplementedError(f"{self.name} has no published weights")

    def initialise(self, seed: int) -> None:
        """Fill with random weights that keep the scale of activations from layer to layer.

        Parameters
        ----------
        seed : int
            The same seed gives the same weights; torch's global generator is left alone.
        """
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                with torch.no_grad():
                    module.weight.normal_(0.0, math.sqrt(2.0 / fan_in), generator=generator)
                    # Half of each filter's mean is taken out: all of it, and colours are lost (mAP of a random
                    # SqueezeNet falls from 11 to 7); nothing, and all photos look alike (cosines of 0.99).
                    module.weight -= module.weight.mean(dim=(1, 2, 3), keepdim=True) / 2
                    if module.bias is not None:
                        module.bias.zero_()

    def named_as_here(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A file's weights under the names that they have in this module's state."""
        return dict(state)


def beside_token(features: Tensor, token: Tensor) -> Tensor:
    """A map (B, K, h, w) and a token (B, K) as one map (B, 2 K, h, w); see `Backbone.with_token`."""
    return torch.cat([features, token[:, :, None, None].expand_as(features)], dim=1)


def _all_of(link: Link, x: Tensor) -> Tensor:
    for part in link:
        x = part(x)
    return x


def _learns(link: Link) -> bool:
    layers = [part for part in link if isinstance(part, nn.Module)]
    return any(value.requires_grad for layer in layers for value in layer.parameters())


def whole_patches(size: Sequence[int], patch: tuple[int, int]) -> list[int]:
    """How many patches of a height and a width fit a photo's best, at least one."""
    return [max(1, round(side / length)) for side, length in zip(size, patch, strict=True)]


def at_whole_patches(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """Scale photos (B, C, H, W) to the nearest sides that are whole patches, at least one."""
    sides = [count * length for count, length in zip(whole_patches(x.shape[-2:], patch), patch, strict=True)]
    if sides == list(x.shape[-2:]):
        return x
    return interpolate(x, size=sides, mode="bilinear", align_corners=False, antialias=True)
