"""A network as one ONNX file: photos of any size and number in, descriptors out, whitening layer included."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from retrieval.exporting.self_contained import description_of
from retrieval.networks.network import Network
from sfm2tuples.errors import UsageError, first_line
from sfm2tuples.files.atomic import write_atomically

PACKAGES = ("onnx", "onnxscript")
"""What torch writes ONNX with."""
INPUT_NAME, OUTPUT_NAME = "photos", "descriptors"
DYNAMIC = {0: "batch", 2: "height", 3: "width"}
"""Sides of the input that may be any number; `smallest` of the backbone is the least of the last two."""
TRACED = (2, 3, 193, 258)
"""The photos by which torch follows the network: an odd and an even side, so that no padding is taken for a number."""
ANOTHER = (1, 3, 230, 97)
"""Photos of another size, number and aspect: what torch has followed must describe them as the network does."""
TOLERANCE = 1e-5
"""Of each value of a descriptor, whose norm is 1."""
REMEDY = "--photo-size, such as 322x322, makes the network warp photos to one size; or take gem, mac or spoc"
"""What can be written in place of a network that follows the photo's size."""
METADATA = "sfm2tuples"
"""The entry of the file's metadata that holds the description, as JSON."""


def check_packages() -> None:
    """Refuse before any work where a package is missing.

    Raises
    ------
    UsageError
    """
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UsageError(f"--format onnx needs the package {name}: pip install 'sfm2tuples[onnx]'") from error


def write_onnx(path: Path, network: Network) -> None:
    """Write the file; it appears whole or not at all, and replaces one that is there.

    Raises
    ------
    UsageError
        A package is missing, or the network's computation depends on the photo's size in a way that ONNX cannot say.
    """
    check_packages()
    _refuse_at_once(network)
    program = _program(network)
    description = {**description_of(network), "smallest": network.backbone.smallest}
    program.model.metadata_props[METADATA] = json.dumps(description)
    # torch notes for each node from which line of which file it comes: nothing for a file that goes elsewhere.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    with write_atomically(path) as temporary:
        program.save(temporary, external_data=False)


def _refuse_at_once(network: Network) -> None:
    """Refuse at once what torch's exporter would refuse after half a minute of following the network."""
    if network.pool.follows_size and not network.description.photo_size:
        parts = f"{network.description.backbone} with {network.description.pooling}"
        raise UsageError(
            f"{parts} cannot be written as ONNX for photos of any size (it computes otherwise for each size); {REMEDY}"
        )


def _program(network: Network) -> Any:
    """The computation as torch's exporter gives it, once it is known to take photos of any size."""
    parts = f"{network.description.backbone} with {network.description.pooling}"
    other = torch.rand(*ANOTHER)
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                network.eval(),
                (torch.rand(*TRACED),),
                dynamo=True,
                dynamic_shapes=(DYNAMIC,),
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                verbose=False,
            )
            with torch.no_grad():
                found, wanted = program.exported_program.module()(other), network(other)
    # The exporter passes on whatever stopped it, from torch's compiler, from onnxscript or from sympy.
    except Exception as error:
        raise UsageError(
            f"{parts} cannot be written as ONNX for photos of any size ({first_line(error)}); {REMEDY}"
        ) from error
    if not torch.allclose(found, wanted, rtol=0, atol=TOLERANCE):
        raise UsageError(f"{parts} would describe photos of other sizes otherwise as ONNX; {REMEDY}")
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings, which speak of torchvision's operators and of torch's own future."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
