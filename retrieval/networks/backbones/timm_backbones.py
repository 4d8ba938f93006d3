"""Backbones from the package timm, by `timm:NAME`: convolutional networks, and ViTs such as DINOv2.

A ViT's patch tokens are the map, without class and register tokens; photos are scaled to whole patches. Dropout and
stochastic depth, which timm gives some, are off.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from retrieval.networks.backbones.backbone import Backbone, Link, at_whole_patches, beside_token, whole_patches
from retrieval.networks.description import Colour
from sfm2tuples.errors import UsageError, WeightsError, first_line

TIMM = "timm:"
"""What stands before a name of timm."""
SMALLEST = 32
"""Least side in pixels of a photo for a network without patches; the stride of most."""
STEPS = (1, 32, 64)
"""What the sides of a photo are made multiples of for a network without patches: the first that it can do with."""
CHAINS = ("blocks", "stages", "layers", "features")
"""What timm's networks call the chain of their blocks."""
_LISTS = (nn.Sequential, nn.ModuleList)
TRIED = ((185, 231), (224, 160))
"""Heights and widths of the photos that a network must take, in pixels."""


class TimmBackbone(Backbone):
    """A network of timm without its classifier and its pooling.

    Parameters
    ----------
    name : str
        ``timm:NAME``.
    seed : int
        Of the random weights that timm gives it.

    Raises
    ------
    UsageError
        timm is not installed, knows no such network, or one that takes photos of a single size or gives no map.
    """

    published_as = "pretrained"
    enters_at_blocks = False

    def __init__(self, name: str, seed: int = 0) -> None:
        super().__init__()
        self.name = name
        self.model = _create(name, seed)
        _leave_chance_out(self.model)
        self.channels = int(self.model.num_features)
        self.patch = _patch_size(self.model)
        self.smallest = max(self.patch) if max(self.patch) > 1 else SMALLEST
        self.has_class_token = getattr(self.model, "cls_token", None) is not None
        self.classifier = tuple(f"model.{layer}." for layer in _classifiers(self.model))
        self._refuse_without_map(self._find_step() if self.patch == (1, 1) else self._trial())

    def links(self) -> list[Link]:
        """All of it at once: timm's blocks are not entered one by one."""
        nothing: Link = ()
        to_patches = partial(at_whole_patches, patch=self.patch)
        return [(to_patches, self._last_features), *(nothing for _ in self.block_names())]

    def finished(self, values: Tensor, size: tuple[int, int], token: bool) -> Tensor:
        """The map of the last features, beside its class token, the first of all tokens, or the map's mean."""
        own: Tensor | None = None
        if values.ndim == 3:
            own = values[:, 0] if self.has_class_token else None
            values = self._tokens_as_map(values, *whole_patches(size, self.patch))
        elif getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            values = values.permute(0, 3, 1, 2)
        if values.ndim != 4 or values.shape[1] != self.channels:
            raise UsageError(f"backbone {self.name}: its last features, {tuple(values.shape)}, are no map to pool")
        return super().finished(values, size, token) if own is None or not token else beside_token(values, own)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As timm does it for this network, see `Backbone.set_grad_checkpointing`."""
        try:
            self.model.set_grad_checkpointing(enable)
        # A network that cannot has no such method, or asserts that it is not asked.
        except (AttributeError, AssertionError) as error:
            raise UsageError(f"backbone {self.name} has no gradient checkpointing in timm; use --chunked") from error

    def _last_features(self, x: Tensor) -> Tensor:
        features = self.model.forward_features(x)
        if not isinstance(features, Tensor):
            raise UsageError(f"backbone {self.name}: its last features are no map to pool")
        return features

    def initialise(self, seed: int) -> None:
        """Random weights as timm draws them; torch's global generator is left alone."""
        self.model.load_state_dict(_create(self.name, seed).state_dict())

    def named_as_here(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights with timm's names, as in this module's state."""
        return {f"model.{name}": value for name, value in state.items()}

    def block_names(self) -> list[tuple[str, ...]]:
        """What timm has in its chain of blocks, stages or layers; without such a chain, its parts that have weights."""
        parts = [name for name, part in self.model.named_children() if any(True for _ in part.parameters())]
        chain = next((name for name in CHAINS if name in parts and isinstance(getattr(self.model, name), _LISTS)), "")
        if not chain:
            return [(f"model.{name}",) for name in parts]
        links = [name for name, _ in getattr(self.model, chain).named_children()]
        names: list[tuple[str, ...]] = [(f"model.{chain}.{name}",) for name in links]
        behind = tuple(f"model.{name}" for name in parts[parts.index(chain) + 1 :])
        return [*names[:-1], (*names[-1], *behind)]

    @property
    def colours(self) -> tuple[Colour, Colour]:
        """Of timm's weights; ImageNet's where it does not say."""
        config = _import_timm().get_pretrained_cfg(self.name.removeprefix(TIMM))
        if config is None:
            return super().colours
        mean, std = ((float(c[0]), float(c[1]), float(c[2])) for c in (config.mean, config.std))
        return mean, std

    def load_published(self) -> None:
        """Fetch timm's own weights.

        Raises
        ------
        WeightsError
            They cannot be fetched, or there are none.
        """
        try:
            self.model.load_state_dict(_create(self.name, seed=0, pretrained=True).state_dict())
        # The hub's client raises errors of its own beside these; all of them are OSError or one of the others.
        except (OSError, RuntimeError, ValueError, KeyError, ImportError, TypeError) as error:
            what = f"timm's weights cannot be fetched ({first_line(error)})"
            raise WeightsError(self.name, what, "give a file to --weights") from error

    def _find_step(self) -> Exception | None:
        """Take the first of `STEPS` with which it takes photos of any size; what goes wrong with the first of them all.

        Where none will do, the network stays with the first.
        """
        errors = []
        for step in STEPS:
            self.patch = (step, step)
            error = self._trial()
            if error is None:
                return None
            errors.append(error)
        self.patch = (STEPS[0], STEPS[0])
        return errors[0]

    def _refuse_without_map(self, error: Exception | None) -> None:
        """Say before any photo is read that photos give no map, or not those of any size."""
        if isinstance(error, UsageError):
            raise error
        if error is not None:
            what = f"does not take photos of any size ({first_line(error)})"
            raise UsageError(f"backbone {self.name} {what}; choose another one") from error

    def _trial(self) -> Exception | None:
        """What goes wrong with photos of the sizes in `TRIED`; they cost less than reading a file of weights."""
        training = self.training
        try:
            with torch.inference_mode():
                for height, width in TRIED:
                    self.eval()(torch.zeros(1, 3, height, width))
        # Each of a thousand networks refuses in its own way: by asserting, in the shapes of products, by indexing.
        except Exception as error:
            return error
        finally:
            self.train(training)
        return None

    def _tokens_as_map(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """(B, prefix + rows x columns, C), row by row, to (B, C, rows, columns)."""
        patches = tokens[:, int(getattr(self.model, "num_prefix_tokens", 0)) :]
        if patches.shape[1] != rows * columns:
            raise UsageError(
                f"backbone {self.name}: {patches.shape[1]} tokens are no map of {rows} x {columns} patches"
            )
        return patches.transpose(1, 2).unflatten(2, (rows, columns))


def build(name: str) -> TimmBackbone:
    """The backbone of that name; see `TimmBackbone`."""
    return TimmBackbone(name)


def _create(name: str, seed: int, pretrained: bool = False) -> Any:
    """Build by timm; with position embeddings for photos of any size where the network has such."""
    timm, bare = _import_timm(), name.removeprefix(TIMM)
    if not timm.is_model(bare):
        raise UsageError(f"timm has no network {bare!r}; timm.list_models() names them")
    # timm draws from torch's global generator: lend it one.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(bare, pretrained=pretrained, num_classes=0, dynamic_img_size=True)
        except TypeError:
            model = timm.create_model(bare, pretrained=pretrained, num_classes=0)
    if model.pretrained_cfg.get("fixed_input_size"):
        raise UsageError(f"backbone {name} takes photos of one size only; choose one that takes any")
    return model


def _leave_chance_out(model: Any) -> None:
    """Let no layer draw numbers in training: a gradient in chunks goes through the network twice, and a run goes on.

    Layers stay in training otherwise: some of timm's keep what they have worked out of weights while they are not.
    """
    for layer in model.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.p = 0.0
        if getattr(layer, "drop_prob", None):
            layer.drop_prob = 0.0


def _import_timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise UsageError("backbones timm:NAME need the package timm: pip install 'sfm2tuples[timm]'") from error
    module: ModuleType = timm
    return module


def _patch_size(model: Any) -> tuple[int, int]:
    """Height and width in pixels of what becomes a token; (1, 1) for networks without, or whose patches overlap."""
    embed: Any = getattr(model, "patch_embed", None) or getattr(model, "embeds", None)
    size = getattr(embed, "patch_size", 1)
    if hasattr(embed, "feat_ratio"):
        # A convolutional network may stand before the patches: what counts is the shrinking of both.
        size = embed.feat_ratio(as_scalar=False)
    else:
        stride = getattr(getattr(embed, "proj", None), "stride", None)
        if stride is not None and tuple(stride) != ((size, size) if isinstance(size, int) else tuple(size)):
            return 1, 1
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _classifiers(model: Any) -> tuple[str, ...]:
    names = model.pretrained_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)
