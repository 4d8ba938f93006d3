"""The layouts of descriptor files, see `descriptors`."""

from __future__ import annotations

LAYOUTS = ("columnar", "hloc")
