"""What a step trains on: tuples, a batch of places, or a batch of photos of which only the teacher says anything."""

from __future__ import annotations

from dataclasses import dataclass

from sfm2tuples.errors import UsageError
from sfm2tuples.mining.batch_options import GraphSampling, two_numbers

PHOTOS = "photos:PxK"
"""What `--sampling` takes beside `TUPLES` and `GRAPH`."""
DEFAULT = "photos:8x4"
"""Where the photos are in no tuple file; ours."""
WEIGHT = 1.0
"""Of a teacher's part of the loss, beside tuples or graph batches; ours."""
FEWEST = 3
"""Photos of a batch; two have one distance, which divided by the mean is always 1."""


@dataclass(frozen=True)
class PhotoSampling:
    """The size of a batch of photos."""

    photos: int
    """P: photos that are drawn."""
    near: int
    """K: each of them with its K - 1 nearest by the teacher."""


def sampling_of(text: str) -> GraphSampling | PhotoSampling | None:
    """What ``tuples`` (None), ``graph:PxK`` or ``photos:PxK`` means.

    Raises
    ------
    UsageError
        It means nothing.

    Examples
    --------
    >>> sampling_of("photos:8x4")
    PhotoSampling(photos=8, near=4)
    """
    if not text.startswith("photos"):
        return GraphSampling.of(text)
    size = two_numbers("photos", text)
    if not size or min(size) < 1 or size[0] * size[1] < FEWEST:
        what = f"sampling {text!r} is unknown; {PHOTOS} is P photos, each with its K - 1 nearest by the teacher"
        raise UsageError(f"{what}: at least {FEWEST} in all, such as {DEFAULT}")
    return PhotoSampling(*size)
