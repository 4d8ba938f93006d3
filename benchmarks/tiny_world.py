"""A world of a few kilobytes with a good file of every kind that is read, made by the commands themselves.

Three scenes of four photos with a model each, and all that follows from them; what other programs make is written by
hand. The trials of this folder (`mutations`, `kills`, `full_disks`) damage it, and run commands on it.
"""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from tests.hand_made import run, write_binary_model, write_text_model
from tests.textures import texture

SCENES = ("abbey", "bridge", "castle")
PHOTOS = {scene: [f"{scene[0]}{number}.jpg" for number in range(4)] for scene in SCENES}
"""Names of each scene's photos, relative to its folder of them; no two scenes have the same."""
POINTS = 20
"""Points of a model; all images see all of them, more than the 15 that make a positive in an evaluation."""
NVM_PHOTO = "{} 500 1 0 0 0 {} 0 0 0 0\n"
DATABASE = """
CREATE TABLE cameras(camera_id INTEGER PRIMARY KEY, model INTEGER, width INTEGER, height INTEGER, params BLOB);
CREATE TABLE images(image_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, camera_id INTEGER NOT NULL);
CREATE TABLE two_view_geometries(pair_id INTEGER PRIMARY KEY, rows INTEGER, cols INTEGER, data BLOB, config INTEGER);
"""
"""The tables of COLMAP's database that a build looks into."""


def make_world(folder: Path) -> None:
    """Make the world in a folder that is there and empty.

    Raises
    ------
    RuntimeError
        A command did not do its work.
    """
    with inside(folder):
        _write_scenes()
        _write_models_of_others()
        _make("build-index models -o index.h5 --val-share 0.34")
        _write_network()
        for line in (
            "extract index.h5 -o descriptors.h5 --network network.pt --image-size 48",
            "extract index.h5 -o hloc.h5 --network network.pt --image-size 48 --layout hloc",
            "mine-tuples index.h5 -o tuples.h5 --descriptors descriptors.h5 --num-negatives 1 --query-share 0.5",
            "mine-tuples index.h5 -o packed.h5 --descriptors descriptors.h5 --num-negatives 1 --pack-images 48",
            "train tuples.h5 -o run --network network.pt --rounds 1 --image-size 48 --queries-per-round 2",
            "whiten index.h5 -o whitening.h5 --descriptors descriptors.h5 --shrinkage 0.1 --dim 8",
            "extract-features index.h5 -o features.h5",
            "build-bow features.h5 -o bow.h5 --num-words 64",
            "search --queries descriptors.h5 --database descriptors.h5 -o ranks.h5 --rerank geometry:4 "
            "--features features.h5",
            "export --format cirtorch network.pt -o network.pth --whitening whitening.h5",
            "export --format cirtorch tuples.h5 -o retrieval-SfM-tiny",
        ):
            _make(line)
        _write_lists()
        _make("evaluate --labels labels.csv --descriptors descriptors.h5 -o evaluation.json")
        _make("evaluate --labels labels.csv --descriptors hloc.h5 -o other.json")
        Path("out").mkdir()


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder: commands get names relative to it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def keys() -> list[str]:
    """The photos' keys in the index."""
    return [f"{scene}/images/{photo}" for scene in SCENES for photo in PHOTOS[scene]]


def _make(line: str) -> None:
    if run(*line.split(), "--quiet") != 0:
        raise RuntimeError(f"{line}: did not end well")


def _write_scenes() -> None:
    """Each scene is a wall; its photos are cut from it, each a little farther to the right."""
    for seed, scene in enumerate(SCENES):
        wall = texture(seed, 140, 100)
        write_text_model(Path("models") / scene / "sparse" / "0", PHOTOS[scene], POINTS)
        for number, name in enumerate(PHOTOS[scene]):
            path = Path("models") / scene / "images" / name
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(wall[number * 4 : number * 4 + 72, number * 8 : number * 8 + 96]).save(path, quality=90)


def _write_models_of_others() -> None:
    for scene in SCENES[:2]:  # Two models with one folder of photos, which a database joins.
        write_text_model(Path("joined") / scene / "sparse" / "0", PHOTOS[scene], POINTS)
        shutil.copytree(Path("models") / scene / "images", "joined/images", dirs_exist_ok=True)
    photos = PHOTOS["abbey"]
    write_binary_model(Path("binary/sparse/0"), photos, POINTS)
    rigs = Path("rigs/sparse/0")
    write_text_model(rigs, photos, POINTS)
    (rigs / "rigs.txt").write_text("1 1 CAMERA 1\n")
    (rigs / "frames.txt").write_text("".join(f"{i} 1 1 0 0 0 {0.1 * i} 0 0 1 CAMERA 1 {i}\n" for i in range(1, 5)))
    cameras = "".join(f"500 0 0\n1 0 0\n0 1 0\n0 0 1\n{0.1 * i} 0 0\n" for i in range(4))
    track = " ".join(f"{i} {{0}} {10 * i} 5" for i in range(4))
    points = "".join(f"{p} 0 -4\n0 0 0\n4 {track.format(p)}\n" for p in range(POINTS))
    Path("bundler").mkdir()
    Path("bundler/bundle.out").write_text(f"# Bundle file v0.3\n4 {POINTS}\n{cameras}{points}")
    Path("bundler/list.txt").write_text("".join(f"{name} 0 500\n" for name in photos))
    cameras = "".join(NVM_PHOTO.format(name, 0.1 * i) for i, name in enumerate(photos))
    points = "".join(f"{p} 0 4 0 0 0 4 {track.format(p)}\n" for p in range(POINTS))
    Path("nvm").mkdir()
    Path("nvm/site.nvm").write_text(f"NVM_V3\n\n4\n{cameras}{POINTS}\n{points}\n0\n")
    _write_kapture(photos)
    with sqlite3.connect("database.db") as database:
        database.executescript(DATABASE)
        names = PHOTOS["abbey"] + PHOTOS["bridge"]
        database.executemany("INSERT INTO images VALUES(?, ?, 1)", list(enumerate(names, 1)))
        pairs = [(2147483647 * i + j, 40, 2, bytes(320), 2) for i in range(1, 5) for j in range(5, 9)]
        database.executemany("INSERT INTO two_view_geometries VALUES(?, ?, ?, ?, ?)", pairs)
    database.close()


def _write_kapture(photos: Sequence[str]) -> None:
    """The same as a kapture; the last photo hangs on a rig."""
    folder, head = Path("kapture"), "# kapture format: 1.1\n"
    (folder / "sensors").mkdir(parents=True)
    keypoints = folder / "reconstruction/keypoints/SIFT"
    keypoints.mkdir(parents=True)
    device = ["cam", "cam", "cam", "rig"]
    moves = "".join(f"{i}, {device[i]}, 1, 0, 0, 0, {0.1 * i}, 0, 0\n" for i in range(4))
    track = ", ".join(f"{name}, {{0}}" for name in photos)
    texts = {
        "sensors/sensors.txt": "cam, , camera, SIMPLE_PINHOLE, 96, 72, 500, 48, 36\n",
        "sensors/records_camera.txt": "".join(f"{i}, cam, {name}\n" for i, name in enumerate(photos)),
        "sensors/trajectories.txt": moves,
        "sensors/rigs.txt": "rig, cam, 1, 0, 0, 0, 0, 0, 0\n",
        "reconstruction/points3d.txt": "".join(f"{p}, 0, 4, 0, 0, 0\n" for p in range(POINTS)),
        "reconstruction/observations.txt": "".join(f"{p}, SIFT, {track.format(p)}\n" for p in range(POINTS)),
        "reconstruction/keypoints/SIFT/keypoints.txt": "SIFT, float32, 2\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(head + text)
    for name in photos:
        (keypoints / f"{name}.kpt").write_bytes(np.full((POINTS, 2), 7, "<f4").tobytes())


def _write_network() -> None:
    """A network of random weights, as our checkpoint and as its backbone's weights alone."""
    import torch
    from safetensors.torch import save_file

    from retrieval.networks.checkpoints import save_checkpoint
    from retrieval.networks.description import NetworkDescription
    from retrieval.networks.network import Network

    torch.manual_seed(0)
    network = Network(NetworkDescription(backbone="squeezenet1_1", pooling="gem"))
    save_checkpoint(Path("network.pt"), network)
    state = {name: value.contiguous() for name, value in network.backbone.state_dict().items()}
    save_file(state, "weights.safetensors")
    np.savez("weights.npz", **{name: value.numpy() for name, value in state.items()})


def _write_lists() -> None:
    """Labels, lists and ground truth over the photos of the index."""
    from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors

    every = keys()
    Path("photos.txt").write_text("".join(f"{name}\n" for name in every[:4]))
    with Path("labels.csv").open("w", newline="") as file:
        rows = [(name, name.split("/")[0], "query" if "0.jpg" in name else "database") for name in every]
        csv.writer(file, lineterminator="\n").writerows([("image", "label", "role"), *rows])
    Path("places.csv").write_text(
        "model,place,split\nmodels/abbey,one,train\nmodels/bridge,one,\nmodels/castle,two,val\n"
    )
    others = [[name for name in every if name != query] for query in every]
    Path("rankings.txt").write_text("".join(f"{q} {' '.join(names)}\n" for q, names in zip(every, others, strict=True)))
    found = read_descriptors("descriptors.h5")
    np.save("descriptors.npy", found.values)
    Path("descriptors.txt").write_text("".join(f"{name}\n" for name in found.names))
    with h5py.File("foreign.h5", "w") as file:  # hloc's own, without a header
        for name, row in zip(found.names, found.values, strict=True):
            file.create_dataset(f"{name}/global_descriptor", data=row.astype(np.float16))
    short = [f"{scene}_{photo}" for scene in SCENES for photo in PHOTOS[scene]]
    write_descriptors("short.h5", Descriptors(short, np.array(found.values)))
    lists = {"bbx": [1.0, 2.0, 60.0, 50.0], "easy": [0, 1], "hard": [2], "junk": [3]}
    gnd = {"imlist": every[1:], "qimlist": every[:1], "gnd": [lists]}
    Path("gnd").mkdir()
    Path("gnd/roxford5k.json").write_text(json.dumps(gnd))
    arrays = {name: np.array(value) for name, value in lists.items()}
    Path("gnd/gnd_roxford5k.pkl").write_bytes(pickle.dumps(gnd | {"gnd": [arrays]}, 2))
    Path("texts").mkdir()
    for row, scene in enumerate(SCENES):
        names = [name.removesuffix(".jpg") for name in short[4 * row : 4 * row + 4]]
        Path(f"texts/{scene}_1_query.txt").write_text(f"oxc1_{names[0]} 1 2 60.5 50\n")
        for kind, listed in (("good", names[:2]), ("ok", names[2:3]), ("junk", names[3:])):
            Path(f"texts/{scene}_1_{kind}.txt").write_text("".join(f"{name}\n" for name in listed))
