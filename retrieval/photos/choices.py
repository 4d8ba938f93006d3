"""What a user may choose of how a network sees a photo; `decoding` and `cropping` do it."""

from __future__ import annotations

BILINEAR, LANCZOS = "bilinear", "lanczos"
RESIZE_FILTERS = (BILINEAR, LANCZOS)
"""What makes photos smaller."""
STORED, EXIF = "stored", "exif"
UPRIGHT = (STORED, EXIF)
"""A photo as it is stored, as COLMAP does, or turned as its EXIF says."""
CROPS = ("none", "image", "activations")
"""Of a query: the whole photo; its box cut out (Crop_I); the activations with centres in the box (Crop_X)."""
