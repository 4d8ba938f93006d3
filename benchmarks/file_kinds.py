"""Every kind of file that is read: the good one of the tiny world, and the commands that read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kind:
    """A kind of file that is read."""

    file: str
    """The good file, below the world's folder."""
    commands: tuple[str, ...]
    """Commands that read it; what they write is called ``out/...``."""
    is_whole: bool = False
    """Whether a reader can tell that bytes are missing at its end."""


KINDS = {
    "index": Kind(
        "index.h5",
        (
            "inspect index.h5",
            "mine-tuples index.h5 -o out/t.h5 --descriptors descriptors.h5 --num-negatives 1",
            "evaluate --index index.h5 --descriptors descriptors.h5 -o out/e.json",
            "evaluate --protocol place-recognition --data index.h5 --descriptors descriptors.h5 -o out/e.json",
            "export --format pairs index.h5 -o out/p.txt --names key",
            "export --format graphml index.h5 -o out/g.graphml",
            "whiten index.h5 -o out/w.h5 --descriptors descriptors.h5 --shrinkage 0.1 --dim 8",
            "extract index.h5 -o out/d.h5 --network network.pt --image-size 48",
        ),
        True,
    ),
    "tuples": Kind(
        "tuples.h5",
        (
            "inspect tuples.h5",
            "report tuples.h5 -o out/page",
            "whiten tuples.h5 -o out/w.h5 --descriptors descriptors.h5 --shrinkage 0.1 --dim 8",
            "export --format cirtorch tuples.h5 -o out/retrieval-SfM-tiny",
            "extract tuples.h5 -o out/d.h5 --network network.pt --image-size 48",
            "train tuples.h5 -o out/run --network network.pt --rounds 1 --image-size 48 --queries-per-round 2",
            "train tuples.h5 -o out/run --network network.pt --rounds 1 --image-size 48 --no-remine",
        ),
        True,
    ),
    "packed tuples": Kind(
        "packed.h5",
        (
            "inspect packed.h5",
            "report packed.h5 -o out/page",
            "extract packed.h5 -o out/d.h5 --network network.pt --image-size 48",
            "train packed.h5 -o out/run --network network.pt --rounds 1 --image-size 48 --queries-per-round 2",
        ),
        True,
    ),
    "descriptors": Kind(
        "descriptors.h5",
        (
            "inspect descriptors.h5",
            "search --queries descriptors.h5 --database descriptors.h5 -o out/r.h5",
            "evaluate --labels labels.csv --descriptors descriptors.h5 -o out/e.json",
            "mine-tuples index.h5 -o out/t.h5 --descriptors descriptors.h5 --num-negatives 1",
            "whiten index.h5 -o out/w.h5 --descriptors descriptors.h5 --method pca",
        ),
        True,
    ),
    "hloc descriptors": Kind(
        "hloc.h5",
        (
            "inspect hloc.h5",
            "search --queries hloc.h5 --database hloc.h5 -o out/r.h5",
            "evaluate --labels labels.csv --descriptors hloc.h5 -o out/e.json",
        ),
        True,
    ),
    "foreign descriptors": Kind(
        "foreign.h5",
        (
            "search --queries foreign.h5 --database descriptors.h5 -o out/r.h5",
            "import-descriptors foreign.h5 -o out/d.h5",
        ),
        True,
    ),
    "features": Kind(
        "features.h5",
        (
            "inspect features.h5",
            "build-bow features.h5 -o out/b.h5 --num-words 64",
            "search --queries descriptors.h5 --database descriptors.h5 -o out/r.h5 --rerank geometry:4 "
            "--features features.h5",
        ),
        True,
    ),
    "bow": Kind(
        "bow.h5",
        (
            "inspect bow.h5",
            "shorten-bow bow.h5 -o out/d.h5 --dim 4",
            "build-bow features.h5 -o out/b.h5 --vocabulary bow.h5",
            "evaluate --labels labels.csv --teacher bow.h5 --num-verified 3 -o out/e.json",
            "evaluate --labels labels.csv --teacher bow.h5 --hamming 24 -o out/e.json",
        ),
        True,
    ),
    "ranks": Kind(
        "ranks.h5", ("inspect ranks.h5", "evaluate --labels labels.csv --rankings ranks.h5 -o out/e.json"), True
    ),
    "whitening": Kind(
        "whitening.h5",
        (
            "inspect whitening.h5",
            "evaluate --labels labels.csv --descriptors descriptors.h5 --whitening whitening.h5 -o out/e.json",
            "extract photos.txt --images models -o out/d.h5 --network network.pt --image-size 48 "
            "--whitening whitening.h5",
            "export --format cirtorch network.pt -o out/n.pth --whitening whitening.h5",
        ),
        True,
    ),
    "checkpoint": Kind(
        "network.pt",
        (
            "inspect network.pt",
            "extract photos.txt --images models -o out/d.h5 --network network.pt --image-size 48",
            "export --format cirtorch network.pt -o out/n.pth",
        ),
    ),
    "run": Kind(
        "run/last.pt",
        ("inspect run/last.pt", "train tuples.h5 -o run --resume", "train tuples.h5 -o run --resume --rounds 2"),
    ),
    "cirtorch checkpoint": Kind(
        "network.pth",
        (
            "inspect network.pth",
            "extract photos.txt --images models -o out/d.h5 --network network.pth --image-size 48",
            "export --format whitening network.pth -o out/w.h5",
        ),
    ),
    "npz": Kind(
        "weights.npz",
        (
            "extract photos.txt --images models -o out/d.h5 --backbone squeezenet1_1 --weights weights.npz "
            "--image-size 48",
        ),
    ),
    "safetensors": Kind(
        "weights.safetensors",
        (
            "extract photos.txt --images models -o out/d.h5 --backbone squeezenet1_1 --weights weights.safetensors "
            "--image-size 48",
        ),
    ),
    "evaluation": Kind(
        "evaluation.json",
        (
            "report evaluation.json -o out/page --images models",
            "report other.json --compare evaluation.json -o out/page --images models",
        ),
        True,
    ),
    "gnd json": Kind(
        "gnd/roxford5k.json",
        ("evaluate --protocol roxford5k --data gnd/roxford5k.json --descriptors descriptors.h5 -o out/e.json",),
        True,
    ),
    "gnd pickle": Kind(
        "gnd/gnd_roxford5k.pkl",
        ("evaluate --protocol roxford5k --data gnd/gnd_roxford5k.pkl --descriptors descriptors.h5 -o out/e.json",),
        True,
    ),
    "gnd text": Kind(
        "texts/abbey_1_query.txt",
        ("evaluate --protocol oxford5k --data texts --descriptors short.h5 -o out/e.json",),
    ),
    "npy": Kind("descriptors.npy", ("import-descriptors descriptors.npy -o out/d.h5",), True),
    "names": Kind("descriptors.txt", ("import-descriptors descriptors.npy -o out/d.h5",)),
    "cirtorch pickle": Kind(
        "retrieval-SfM-tiny/retrieval-SfM-tiny.pkl",
        (
            "import-tuples retrieval-SfM-tiny/retrieval-SfM-tiny.pkl -o out/t.h5",
            "import-tuples retrieval-SfM-tiny/retrieval-SfM-tiny.pkl -o out/t.h5 --network network.pt --image-size 48 "
            "--num-negatives 1",
        ),
        True,
    ),
    "labels": Kind(
        "labels.csv",
        (
            "evaluate --labels labels.csv --descriptors descriptors.h5 -o out/e.json",
            "extract labels.csv --images models -o out/d.h5 --network network.pt --image-size 48",
        ),
    ),
    "photo list": Kind(
        "photos.txt", ("extract photos.txt --images models -o out/d.h5 --network network.pt --image-size 48",)
    ),
    "rankings": Kind("rankings.txt", ("evaluate --labels labels.csv --rankings rankings.txt -o out/e.json",)),
    "places": Kind("places.csv", ("build-index models -o out/i.h5 --places places.csv",)),
    "database": Kind("database.db", ("build-index joined -o out/i.h5 --database database.db",)),
    "photo": Kind(
        "models/abbey/images/a0.jpg",
        (
            "extract models/abbey/images -o out/d.h5 --network network.pt --image-size 48",
            "build-index models -o out/i.h5",
            "mine-tuples index.h5 -o out/t.h5 --descriptors descriptors.h5 --num-negatives 1 --pack-images 48",
            "report tuples.h5 -o out/page",
        ),
    ),
    **{
        f"colmap {part}{ending}": Kind(
            f"{folder}/sparse/0/{part}{ending}", (f"build-index {folder} -o out/i.h5",), ending == ".bin"
        )
        for ending, folder, parts in (
            (".txt", "models/abbey", ("cameras", "images", "points3D")),
            (".bin", "binary", ("cameras", "images", "points3D")),
            (".txt", "rigs", ("rigs", "frames")),
        )
        for part in parts
    },
    "bundler": Kind("bundler/bundle.out", ("build-index bundler -o out/i.h5",)),
    "bundler list": Kind("bundler/list.txt", ("build-index bundler -o out/i.h5",)),
    "nvm": Kind("nvm/site.nvm", ("build-index nvm -o out/i.h5",)),
    **{
        f"kapture {Path(file).stem}": Kind(f"kapture/{file}", ("build-index kapture -o out/i.h5",))
        for file in (
            *("sensors/sensors.txt", "sensors/records_camera.txt", "sensors/trajectories.txt", "sensors/rigs.txt"),
            *("reconstruction/points3d.txt", "reconstruction/observations.txt"),
            *("reconstruction/keypoints/SIFT/keypoints.txt", "reconstruction/keypoints/SIFT/a0.jpg.kpt"),
        )
    },
}
"""What is damaged, by name."""
