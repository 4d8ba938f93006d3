"""Adding something is one module and one line in a table: shown on a copy of the three packages, by its flag."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_report import write_example
from test_training import SIZE, make_tuples
from worlds import read_whole

from retrieval.networks.checkpoints import load_checkpoint
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors

ROOT = Path(__file__).resolve().parents[1]
POOLING = """
from retrieval.networks.poolings.pooling import Pooling


class Median(Pooling):
    options = ("regional",)

    def forward(self, x):
        return x.flatten(2).median(dim=2).values
"""
FAMILY = """
from torch import nn

from retrieval.networks.backbones.backbone import Backbone


def build(name):
    return Tiny(name)


class Tiny(Backbone):
    smallest = 8

    def __init__(self, name):
        super().__init__()
        self.name, self.channels = name, int(name.partition(":")[2])
        self.layer = nn.Conv2d(3, self.channels, 8, stride=8)

    def forward(self, x):
        return self.layer(x).relu()
"""
LOSS = """
def build(options):
    options.refuse_settings(["price"])
    price = options.values().get("price", 1.0)
    return lambda tuples: price * tuples.has_negative.sum() + 0 * tuples.query.sum()
"""
READER = '''
"""Toy models: a row a point, with the photos that see it; all cameras stand at the origin."""

from pathlib import Path

import numpy as np

from sfm2tuples.readers.assembly import assemble
from sfm2tuples.readers.records import CameraRecords, ImageRecords, PointRecords, observation_bytes
from sfm2tuples.readers.sparse_model import SparseModel
from sfm2tuples.readers.text_rows import data_rows


def read(path: Path) -> SparseModel:
    """Read `x y z NAME NAME ...`."""
    points, seen = [], {}
    for row in data_rows(path):
        points.append(row.numbers(3))
        while row.left():
            seen.setdefault(row.word(), []).append(len(points) - 1)
    counts = np.array([len(rows) for rows in seen.values()])
    flat = np.concatenate(list(seen.values()))
    zeros = np.zeros(len(points), np.int64)
    poses = np.tile([1.0, 0, 0, 0, 0, 0, 0], (len(seen), 1))
    return assemble(
        CameraRecords(path, np.array([1]), np.array([0], np.int32), np.array([[8, 8]]), [np.array([9.0, 4, 4])]),
        ImageRecords(
            path,
            np.arange(len(seen)),
            poses,
            np.ones(len(seen), np.int64),
            [name.encode() for name in seen],
            observation_bytes(np.zeros((len(flat), 2)), flat),
            24 * (np.cumsum(counts) - counts),
            counts,
        ),
        PointRecords(path, np.arange(len(points)), np.array(points), 0.0 * zeros, np.empty(0, np.uint8), zeros, zeros),
        None,
    )
'''
PROTOCOL = '''"""A toy protocol: photos whose names begin with the same letter are right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.protocols.benchmark import Benchmark, ProtocolChoice
from retrieval.protocols.photo_names import PhotoNames


def make_benchmark(choice: ProtocolChoice, names: Callable[[], PhotoNames]) -> Benchmark:
    photos = names().database
    rows = np.arange(len(photos))
    right = [[r for r in rows if r != row and photos[r][0] == photos[row][0]] for row in rows]
    truth = make_ground_truth(rows, right, list(rows[:, None]), np.zeros(len(rows), int), ["letters"])
    return Benchmark(photos, photos, {"letters": truth}, ("mAP", "recall@1"))
'''
COMMAND = '''"""`sfm2tuples count`: how many words there are."""

import click

from cli.output import Output, output_options


@click.command("count", epilog="Example: sfm2tuples count a b")
@click.argument("words", nargs=-1)
@output_options
def command(words: tuple[str, ...], output: Output) -> None:
    """Count WORDS."""
    output.say(f"{len(words)} words")
'''
SECTION = '''"""How large the photos are."""

from retrieval.reports.drawings import Series, histogram
from retrieval.reports.page import Section


def sections(page):
    """A histogram of their widths."""
    widths = Series("query", page.tuples.images.size[:, 0])
    yield Section("sizes", "Sizes", {"note": "Of <all> photos.", "body": histogram([widths], "pixels")})
'''


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages, copied with what was compiled before, so that nothing is compiled anew."""
    folder = tmp_path_factory.mktemp("house")
    for package in ("sfm2tuples", "retrieval", "cli"):
        shutil.copytree(ROOT / package, folder / package)
    return folder


def add(house: Path, module: str, text: str, table: str, before: str, line: str) -> None:
    """Write the module, and the line in the table before what stands there once."""
    (house / module).write_text(text, encoding="utf-8")
    lines = (house / table).read_text(encoding="utf-8")
    assert lines.count(before) == 1
    (house / table).write_text(lines.replace(before, f"{line}\n{before}"), encoding="utf-8")


def run(house: Path, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(house)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def said(house: Path, folder: Path, *words: object) -> str:
    done = run(house, folder, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_pooling_and_a_family_of_backbones(house: Path, tmp_path: Path) -> None:
    networks = "retrieval/networks"
    table = f"{networks}/by_name.py"
    add(house, f"{networks}/poolings/median.py", POOLING, table, '    "mac": ', '    "median": "median:Median",')
    line = '    "tiny_backbones": ("tiny:NAME",),'
    add(house, f"{networks}/backbones/tiny_backbones.py", FAMILY, table, '    "torchvision_backbones": ', line)
    help = said(house, tmp_path, "extract", "--help")
    assert "median" in help
    assert "tiny:NAME" in help
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    flags = ("--backbone", "tiny:5", "--pooling", "median", "--regional")
    said(house, tmp_path, "extract", "photos", "-o", "d.h5", *flags)
    found = read_descriptors(tmp_path / "d.h5")
    assert found.values.shape == (3, 5)
    assert (found.settings["backbone"], found.settings["pooling"]) == ("tiny:5", "median")
    np.testing.assert_allclose(np.linalg.norm(found.values, axis=1), 1, atol=1e-5)


def test_a_loss(house: Path, tmp_path: Path) -> None:
    table, line = "retrieval/training/losses_by_name.py", '    "toll": "retrieval.training.toll:build",'
    add(house, "retrieval/training/toll.py", LOSS, table, "    CONTRASTIVE: ", line)
    assert "toll" in said(house, tmp_path, "train", "--help")
    tuples = make_tuples(tmp_path / "tuples.h5")
    words = ("train", tuples, "-o", "run", "--backbone", "squeezenet1_1", "--image-size", SIZE, "--loss", "toll")
    words += ("--rounds", 1, "--no-remine", "--device", "cpu")
    said(house, tmp_path, *words, "--loss-option", "price=2")
    with (tmp_path / "run" / "curves.csv").open() as file:
        before, after = csv.DictReader(file)
    assert float(after["train_loss"]) == 2 * 3  # every training tuple has three negatives
    assert float(before["val_loss"]) == 2 * 2  # every validation tuple misses one
    options = load_checkpoint(tmp_path / "run" / "last.pt")["options"]
    assert (options["loss"], options["loss_option"]) == ("toll", ("price=2",))
    refused = run(house, tmp_path, *words, "--force", "--loss-option", "prize=2")
    assert refused.returncode == 2
    assert "loss toll has no option prize; it has price" in refused.stderr


def test_a_reader(house: Path, tmp_path: Path) -> None:
    table, line = "sfm2tuples/readers/model_kinds.py", '    FileKind("toy", "points.toy"),'
    add(house, "sfm2tuples/readers/toy.py", READER, table, '    FileKind("nvm"', line)
    (tmp_path / "models" / "castle").mkdir(parents=True)
    (tmp_path / "models" / "castle" / "points.toy").write_text("0 0 5 b.jpg a.jpg\n1 0 5 a.jpg b.jpg\n0 1 5 a.jpg\n")
    said(house, tmp_path, "build-index", "models", "-o", "index.h5")
    index = read_whole(tmp_path / "index.h5")
    assert index.images.name == ["a.jpg", "b.jpg"]
    assert index.models.name == ["castle/points.toy"]
    assert index.places.name == ["castle"]
    assert index.covisibility.shared.tolist() == [2, 2]


def test_a_protocol(house: Path, tmp_path: Path) -> None:
    table, line = "retrieval/protocols/by_name.py", '    "letters": "letters",'
    add(house, "retrieval/protocols/letters.py", PROTOCOL, table, '    "holidays": ', line)
    values = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]], np.float32)
    write_descriptors(tmp_path / "d.h5", Descriptors(["a1.jpg", "b1.jpg", "b2.jpg", "a2.jpg"], values))
    words = ("--protocol", "letters", "--data", tmp_path, "--descriptors", "d.h5", "-o", "e.json")
    said(house, tmp_path, "evaluate", *words)
    # a1 finds b1, a2; b1 finds a2, a1 (0.96, 0.8), b2; b2 finds a2, b1; a2 finds b1, b2, a1.
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["figures"] == {"letters": {"mAP": pytest.approx((1 / 4 + 1 / 6) / 2), "recall@1": 0.0}}


def test_a_command(house: Path, tmp_path: Path) -> None:
    add(house, "cli/commands/count.py", COMMAND, "cli/main.py", '    "report": ', '    "count": "count words",')
    assert "count words" in said(house, tmp_path, "--help")
    assert "Count WORDS." in said(house, tmp_path, "count", "--help")
    assert said(house, tmp_path, "count", "a", "b") == "2 words\n"


def test_a_section_of_a_page(house: Path, tmp_path: Path) -> None:
    table, line = "retrieval/reports/report.py", '        "sizes",'
    add(house, "retrieval/reports/sections/sizes.py", SECTION, table, '        "evidence",\n', line)
    said(house, tmp_path, "report", write_example(tmp_path / "tuples.h5", tmp_path / "photos"), "-o", "page")
    page = (tmp_path / "page/index.html").read_text(encoding="utf-8")
    assert '<a href="#contents">Contents</a><a href="#sizes">Sizes</a><a href="#evidence">' in page
    section = page[page.index('<section id="sizes">') : page.index('<section id="evidence">')]
    assert "<h2>Sizes</h2>" in section
    assert "Of &lt;all&gt; photos." in section
    assert '<rect class="bar query"' in section


def test_no_command_needs_torch_for_its_help() -> None:
    code = "import sys; from cli.main import COMMANDS, group; [group.get_command(None, name) for name in COMMANDS]"
    command = [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
