"""SIFT of one photo by pycolmap; light enough for a worker process, where pycolmap is alone with itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.errors import UsageError

LENGTH = 512.0
"""Descriptors have length 1 times this before they are rounded to bytes, as COLMAP keeps them."""


@dataclass(frozen=True)
class SiftOptions:
    """What is detected and how it is described."""

    max_features: int = 2048
    """The largest ones kept of a photo; one place with two orientations counts once."""
    first_octave: int = -1
    """-1 looks at the photo at twice its size too, which finds smaller things."""
    num_octaves: int = 4
    """Halvings of the photo that are looked at."""
    peak_threshold: float = 0.004
    """Contrast that a feature needs; COLMAP's own is 0.0067."""
    affine_shape: bool = True
    """Describe an ellipse in place of a circle, so that slanted walls look alike."""
    domain_size_pooling: bool = False
    """Average the descriptor over ten sizes; three times as slow."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if self.max_features < 1 or self.num_octaves < 1:
            raise UsageError("max features and num octaves must be at least 1")
        if not -1 <= self.first_octave <= 4:
            raise UsageError(f"first octave must be -1 to 4, not {self.first_octave}")
        if not 0 < self.peak_threshold < 1:
            raise UsageError(f"peak threshold must be between 0 and 1, not {self.peak_threshold}")

    @property
    def smallest_side(self) -> int:
        """Least side in pixels of a photo: pycolmap fits ellipses on 16 pixels of the first octave, or aborts."""
        return 15 * 2 ** max(0, self.first_octave) + 1 if self.affine_shape else 1


def extract_sift(job: tuple[np.ndarray, SiftOptions]) -> tuple[np.ndarray, np.ndarray]:
    """Find the features of a photo on the processor.

    Parameters
    ----------
    job : (H, W) uint8 array and SiftOptions
        A grey photo.

    Returns
    -------
    keypoints : (m, 4) float32
        x, y in pixels (the first pixel's centre is 0.5, 0.5), scale in pixels, orientation in radians.
    descriptors : (m, 128) uint8
        RootSIFT: the square roots of the shares of the gradients, times 512.

    Raises
    ------
    UsageError
        pycolmap is not installed, or older than version 4.
    """
    photo, options = job
    try:
        from pycolmap import Device, FeatureExtractionOptions, FeatureExtractor, Normalization, logging
    except ImportError as error:
        raise UsageError("local features need pycolmap 4 or newer; pip install 'pycolmap>=4'") from error
    logging.minloglevel = 2  # its extractor announces itself for every photo
    chosen = FeatureExtractionOptions()
    chosen.use_gpu, chosen.num_threads = False, 1
    sift = chosen.sift
    sift.max_num_features = options.max_features
    sift.first_octave, sift.num_octaves = options.first_octave, options.num_octaves
    sift.peak_threshold = options.peak_threshold
    sift.estimate_affine_shape = options.affine_shape
    sift.domain_size_pooling = options.domain_size_pooling
    sift.normalization = Normalization.L1_ROOT
    found, described = FeatureExtractor.create(chosen, Device.cpu).extract_from_uint8_array(photo)
    rows = [(point.x, point.y, point.compute_scale(), point.compute_orientation()) for point in found]
    descriptors = np.array(described.data, np.uint8).reshape(len(rows), 128)
    return np.array(rows, np.float32).reshape(-1, 4), descriptors
