"""Loads every module of ours and what they load late, for a fork server: its processes then begin work at once."""

from __future__ import annotations

import importlib
import pkgutil

import PIL.Image
from tqdm import tqdm

import cli
import retrieval
import sfm2tuples

for _package in (sfm2tuples, retrieval, cli):
    for _module in pkgutil.walk_packages(_package.__path__, f"{_package.__name__}."):
        if not _module.name.endswith("__main__"):
            importlib.import_module(_module.name)
PIL.Image.init()
tqdm.get_lock()  # One for all processes: killed ones would leave theirs behind.
