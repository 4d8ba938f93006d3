"""Loads every module of ours and what they load late, for a fork server: its processes then begin work at once."""

from __future__ import annotations

import importlib
import pkgutil
import threading

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
tqdm.set_lock(threading.RLock())  # Of each process its own: one that all share stays held by one that is killed.
