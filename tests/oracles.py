"""Naive versions of every numeric routine: loops and sets, written from the definition, slow and obvious."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["math", "np"]
