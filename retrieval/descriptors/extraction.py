"""Descriptors of photos: decode ahead in threads, run the network in the layout and batch that suit the device."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrieval.descriptors.size_batches import in_batches, one_behind
from retrieval.descriptors.soundness import require_finite
from retrieval.networks.devices import FP32, PRECISIONS, autocast
from retrieval.networks.network import Network
from retrieval.photos.choices import BILINEAR, EXIF, STORED, UPRIGHT
from retrieval.photos.decoding import FILTERS, SIDEWAYS, PhotoSource, load_oriented, photo_name, scaled_photo, turned
from retrieval.photos.elsewhere import threads_for
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.errors import PhotoError, UsageError

Pyramid = list[np.ndarray]
"""A photo at each scale, (H, W, 3) uint8."""
Forward = Callable[[Sequence[int], Tensor], Tensor]
"""Rows of photos, and the photos (B, 3, H, W), to descriptors (B, D)."""
BATCH_SIZE = {"cpu": 1, "cuda": 16}
"""Photos of a forward pass. On a CPU batching loses (docs/performance.md); other devices are treated as cuda."""
LARGEST_SCALE = 2
"""Above 1 a photo is enlarged from `image_size`, as cirtorch does with its scale of the square root of 2."""
DECODERS = {"cpu": 1, "cuda": 8}
"""Threads that decode; each runs at most a few photos ahead."""


@dataclass(frozen=True)
class ExtractionOptions:
    """What changes a descriptor besides the network."""

    image_size: int = 1024
    """Longest side in pixels; never enlarged."""
    scales: tuple[float, ...] = (1.0,)
    """Scales at which a photo is described, relative to `image_size`; the descriptors are combined."""
    exponent: float | None = None
    """Of the generalised mean over scales; None is method.md section 10: the p of plain GeM, else 1."""
    precision: str = FP32
    """``fp32``, or ``bf16`` or ``fp16`` for the network's convolutions; what is pooled of them stays fp32."""
    resize_filter: str = BILINEAR
    """What makes photos smaller: ``bilinear``, or ``lanczos`` as cirtorch does."""
    upright: str | None = None
    """``stored``: photos are seen as they lie; ``exif``: turned as their EXIF says; None: as the network was trained.
    Geometry never turns."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if self.resize_filter not in FILTERS or self.upright not in (None, *UPRIGHT):
            known = f"{', '.join(FILTERS)}; {', '.join(UPRIGHT)}"
            raise UsageError(f"resize filter {self.resize_filter!r}, upright {self.upright!r}: known are {known}")
        if self.image_size < 1:
            raise UsageError(f"image size must be at least 1 pixel, not {self.image_size}")
        if not self.scales or not all(0 < scale <= LARGEST_SCALE for scale in self.scales):
            raise UsageError(
                f"scales must be one or more numbers above 0 and at most {LARGEST_SCALE}, not {self.scales}"
            )
        if self.exponent is not None and not (math.isfinite(self.exponent) and self.exponent > 0):
            raise UsageError(f"exponent must be a positive number, not {self.exponent}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision {self.precision!r} is unknown; one of {', '.join(PRECISIONS)}")


def extract(
    network: Network,
    sources: Sequence[PhotoSource],
    options: ExtractionOptions | None = None,
    names: Sequence[str] | None = None,
    progress: str | None = None,
) -> np.ndarray:
    """Describe photos, all of which must be readable.

    Parameters
    ----------
    network : Network
        Where its weights are, there it runs.
    sources : sequence of str, Path, bytes or callable
        The photos.
    options : ExtractionOptions, optional
        Defaults where left out.
    names : sequence of str, optional
        What to call the photos in messages.
    progress : str, optional
        Title of a progress bar on stderr; none without.

    Returns
    -------
    ndarray
        (n, D) float32, rows of norm 1, in the order of `sources`.

    Raises
    ------
    PhotoError
        A photo is absent, unreadable, or too small for the backbone.
    NotFiniteError
        The network's descriptor of a photo is not finite.
    """
    return extract_readable(network, sources, options, names, progress, strict=True)[0]


def extract_readable(
    network: Network,
    sources: Sequence[PhotoSource],
    options: ExtractionOptions | None = None,
    names: Sequence[str] | None = None,
    progress: str | None = None,
    strict: bool = False,
    sideways: list[str] | None = None,
    forward: Forward | None = None,
) -> tuple[np.ndarray, np.ndarray, list[PhotoError]]:
    """Describe those photos that can be read, and say which could not.

    Parameters
    ----------
    network, sources, options, names, progress
        As `extract`.
    strict : bool
        Raise the first failure.
    sideways : list of str, optional
        See `photo_pyramids`.
    forward : callable, optional
        What describes photos in place of the network: the rows of `sources`, and the photos as the network takes them,
        to descriptors. Of several scales it is called for each.

    Returns
    -------
    values : ndarray
        (m, D) float32, rows of norm 1.
    rows : ndarray
        (m,) int64, rising: which of `sources` each row describes.
    failures : list of PhotoError
        One for each of the n - m others, in order.

    Raises
    ------
    NotFiniteError
        The network's descriptor of a photo is not finite.
    """
    options = seen_by(network, options or ExtractionOptions())
    kind = "cpu" if network.device.type == "cpu" else "cuda"
    exponent = scale_exponent(network, options)
    values = np.zeros((len(sources), network.dimension), dtype=np.float32)
    failures: dict[int, PhotoError] = {}
    bar = ProgressBar(total=len(sources), desc=progress, unit="photo", disable=progress is None)
    # One context for all batches: the weights are cast once.
    with describing(network), autocast(network.device, options.precision), bar:
        pyramids = photo_pyramids(sources, names, options, network.backbone.smallest, DECODERS[kind], sideways)
        readable = _set_failures_aside(pyramids, failures, strict)
        batches = in_batches(readable, BATCH_SIZE[kind], waiting=4 * BATCH_SIZE[kind])
        see = forward or (lambda rows, x: network(x))
        described = ((batch, _forward(network.device, see, batch, exponent)) for batch in batches)
        for batch, found in one_behind(described):
            order = [row for row, _ in batch]
            called = [photo_name(sources[row], None if names is None else names[row]) for row in order]
            values[order] = require_finite(found.cpu().numpy(), called, options.precision)
            bar.update(len(batch))
    rows = np.array([row for row in range(len(sources)) if row not in failures], dtype=np.int64)
    return values[rows] if failures else values, rows, [failures[row] for row in sorted(failures)]


@contextmanager
def describing(network: Network) -> Iterator[None]:
    """A context in which the network describes: in evaluation mode, without gradients."""
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(training)


def extract_settings(network: Network, options: ExtractionOptions) -> dict[str, Any]:
    """What made a descriptor, as plain values: goes into descriptor and whitening files and is compared there."""
    # Only what is not the default: files that were made before there was a choice keep their bytes.
    upright = seen_by(network, options).upright
    seen = {} if upright == STORED else {"upright": upright}
    return {
        "image_size": options.image_size,
        "scales": [float(scale) for scale in options.scales],
        "exponent": scale_exponent(network, options),
        "filter": options.resize_filter,
        "precision": options.precision,
        "backbone": network.description.backbone,
        "pooling": network.description.pooling,
        "network": network.fingerprint(),
        **seen,
    }


def seen_by(network: Network, options: ExtractionOptions) -> ExtractionOptions:
    """The options, with photos as the network saw them in training where nothing else is asked for.

    Raises
    ------
    UsageError
        Several scales of a network that warps all of them to one size.
    """
    size = network.description.photo_size
    if size and len(options.scales) > 1:
        warped = f"this network warps photos of every scale to {'x'.join(map(str, size))} pixels"
        raise UsageError(f"{warped}: leave out --scales, or add --photo-size any")
    return options if options.upright is not None else replace(options, upright=network.upright)


def scale_exponent(network: Network, options: ExtractionOptions) -> float:
    """The exponent that combines scales: as asked, else the network's (method.md section 10)."""
    return network.scale_exponent if options.exponent is None else float(options.exponent)


def combine_scales(descriptors: Tensor, exponent: float) -> Tensor:
    """Generalised mean over scales, then L2 ([P18] section 5.2, [C]).

    Parameters
    ----------
    descriptors : Tensor
        (S, B, D), the descriptors at each scale; not negative where the exponent is not 1.
    exponent : float
        1 is the plain mean.

    Returns
    -------
    Tensor
        (B, D), of norm 1.
    """
    if len(descriptors) == 1:
        return descriptors[0]
    if exponent == 1:
        mean = descriptors.mean(dim=0)
    else:
        mean = descriptors.clamp(min=0).pow(exponent).mean(dim=0).pow(1 / exponent)
    return torch.nn.functional.normalize(mean, dim=-1)


def to_input(photos: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Photos of one size, each (H, W, 3) uint8, as the network's input (B, 3, H, W) float32 in 0..1, channels-last."""
    batch = _stacked(photos, pinned=device.type == "cuda").to(device, non_blocking=True)
    # Rows of pixels are channels-last already: the permutation moves no byte.
    return batch.permute(0, 3, 1, 2).float().div_(255)


def at_scales(photo: np.ndarray, options: ExtractionOptions) -> Pyramid:
    """A photo at each of the options' scales."""
    return [scaled_photo(photo, scale, options.resize_filter) for scale in options.scales]


def feature_map(network: Network, photos: Sequence[np.ndarray], options: ExtractionOptions) -> Tensor:
    """The maps (B, K, h, w) of photos of one size, as they are extracted: in the options' precision."""
    with autocast(network.device, options.precision):
        return network.feature_map(to_input(photos, network.device))


def _stacked(photos: Sequence[np.ndarray], pinned: bool) -> Tensor:
    """Photos of one size as (B, H, W, 3) uint8; pinned memory is what a GPU fetches while the processor goes on."""
    batch = torch.empty((len(photos), *photos[0].shape), dtype=torch.uint8, pin_memory=pinned)
    np.stack(photos, out=batch.numpy())
    return batch


def _forward(device: torch.device, see: Forward, batch: list[tuple[int, Pyramid]], exponent: float) -> Tensor:
    """Describe photos of equal sizes, by their rows: (B, D) float32, where the network is."""
    rows, pyramids = zip(*batch, strict=True)
    scales = [see(rows, to_input(photos, device)) for photos in zip(*pyramids, strict=True)]
    return combine_scales(torch.stack(scales), exponent)


def _set_failures_aside(
    pyramids: Iterator[Pyramid | PhotoError], failures: dict[int, PhotoError], strict: bool
) -> Iterator[tuple[tuple[int, ...], tuple[int, Pyramid]]]:
    """Yield (size, (row, pyramid)) of the photos that were read; raise or keep the other ones' errors."""
    for row, pyramid in enumerate(pyramids):
        if not isinstance(pyramid, PhotoError):
            yield pyramid[0].shape, (row, pyramid)
        elif strict:
            raise pyramid
        else:
            failures[row] = pyramid


def photo_pyramids(
    sources: Sequence[PhotoSource],
    names: Sequence[str] | None,
    options: ExtractionOptions,
    smallest: int,
    threads: int,
    sideways: list[str] | None = None,
) -> Iterator[Pyramid | PhotoError]:
    """Photos at each scale, or why not: decoded in threads, in order, at most two a thread ahead of the consumer.

    Parameters
    ----------
    sources, names, options
        As `extract`.
    smallest : int
        Pixels that the short side must have (`Backbone.smallest`).
    threads : int
        See `DECODERS`; more read and decode where photos lie elsewhere.
    sideways : list of str, optional
        Gets the names of photos that lie sideways by their EXIF and are not turned.
    """
    pending: deque[Future[Pyramid | PhotoError]] = deque()
    workers = threads_for(sources, threads)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for row, source in enumerate(sources):
            name = None if names is None else names[row]
            pending.append(pool.submit(_pyramid, source, name, options, smallest, sideways))
            if len(pending) > max(2 * threads, workers):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pyramid(
    source: PhotoSource, name: str | None, options: ExtractionOptions, smallest: int, sideways: list[str] | None
) -> Pyramid | PhotoError:
    """One photo at each scale, or why not."""
    try:
        photo, orientation = load_oriented(source, options.image_size, name, options.resize_filter)
    except PhotoError as error:
        return error
    if options.upright == EXIF:
        photo = turned(photo, orientation)
    elif orientation in SIDEWAYS and sideways is not None:
        sideways.append(photo_name(source, name))
    pyramid = at_scales(photo, options)
    side = min(min(level.shape[:2]) for level in pyramid)
    if side < smallest:
        return PhotoError(photo_name(source, name), f"{side} pixels on its short side; the backbone needs {smallest}")
    return pyramid
