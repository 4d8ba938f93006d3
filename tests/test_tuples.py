"""The tuple file and the command that makes it."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from hand_made import run as run_command
from PIL import Image
from worlds import random_index, read_whole, write_whole

from cli.commands.mine_tuples import command
from retrieval.networks.choice import NetworkChoice
from retrieval.reports.inspection import inspect_file
from retrieval.reports.options import ReportOptions
from retrieval.reports.report import write_report
from retrieval.tuple_files import readable_photos
from retrieval.tuple_files.distractors import read_distractors
from retrieval.tuple_files.mining import _first_of_places, mine_tuple_file
from retrieval.tuple_files.readable_photos import PhotoOptions
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from sfm2tuples.mining.options import MiningOptions, PoolStrategy
from sfm2tuples.mining.tuple_file import PackedPhotos, read_tuples

OPTIONS = MiningOptions(query_share=1.0, num_negatives=2, min_overlap=0.1)
NO_NETWORK = NetworkChoice()


def photo(rng, size=(90, 60)):
    """A photo that no other has the bytes of."""
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def world(tmp_path):
    """An index of five places with photos on disk, and descriptors of all of them."""
    rng = np.random.default_rng(0)
    index = random_index(rng, (6, 6, 6, 6, 6), (0, 1, 2, 3, 4), val=1)
    photos = tmp_path / "photos"
    index = dataclasses.replace(index, models=dataclasses.replace(index.models, photo_root=[str(photos)] * 5))
    for row in range(30):
        path = index.photo_path(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(rng))
    write_whole(tmp_path / "index.h5", index, {})
    values = rng.standard_normal((30, 16))
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    write_descriptors(tmp_path / "descriptors.h5", Descriptors(index.images.key, values))
    return tmp_path


def mine(world, target="tuples.h5", options=OPTIONS, distractors=None, block=4096, **photos):
    chosen = {"descriptors": world / "descriptors.h5", "choice": NO_NETWORK} | photos
    mined = mine_tuple_file(
        world / "index.h5", world / target, options, PhotoOptions(**chosen), distractors=distractors, block=block
    )
    return mined, read_tuples(world / target)


@pytest.mark.parametrize("across", [None, "[0-4].jpg"])
def test_a_tuple_file_comes_back_as_it_was_mined(world, across):
    options = dataclasses.replace(OPTIONS, across=across)
    mined, tuples = mine(world, options=options)
    for split in ("train", "val"):
        assert len(tuples.tuples[split].query)
        for table, read in (
            (mined.tuples[split], tuples.tuples[split]),
            (mined.tables.candidates[split], tuples.candidates[split]),
        ):
            for field in dataclasses.fields(table):
                ours, theirs = getattr(table, field.name), getattr(read, field.name)
                if field.name == "across" and across is None:
                    assert ours is theirs is None
                    continue
                assert ours.dtype == theirs.dtype
                assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")
    assert tuples.images.key == mined.tables.images.key
    assert tuples.images.root == mined.tables.images.root
    assert np.array_equal(tuples.images.size, np.tile([90, 60], (30, 1)))
    assert tuples.places.name == mined.tables.places.name
    assert tuples.packed_size == 0
    assert tuples.header.options | options.as_dict() == tuples.header.options


def test_the_header_names_what_the_tuples_were_made_from(world):
    _, tuples = mine(world)
    parents = [read_header(world / "index.h5").fingerprint]
    _, without = mine(world, "without.h5", dataclasses.replace(OPTIONS, negatives="random"))
    assert tuples.header.parents[:1] == without.header.parents == tuple(parents)
    assert len(tuples.header.parents) == 2


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_tuples(world):
    first, second = (mine(world, name, pack_images=40) for name in ("a.h5", "b.h5"))
    assert (world / "a.h5").read_bytes() == (world / "b.h5").read_bytes()
    _, other = mine(world, "c.h5", dataclasses.replace(OPTIONS, seed=1))
    assert not np.array_equal(other.tuples["train"].positive, first[1].tuples["train"].positive)
    assert second[1].header.fingerprint == first[1].header.fingerprint != other.header.fingerprint


def test_the_fingerprint_does_not_depend_on_where_the_photos_lie(world):
    _, first = mine(world)
    index = read_whole(world / "index.h5")
    shutil.copytree(world / "photos", world / "moved")
    models = dataclasses.replace(index.models, photo_root=[str(world / "moved")] * 5)
    write_whole(world / "index.h5", dataclasses.replace(index, models=models), {})
    _, second = mine(world)
    assert first.header.fingerprint == second.header.fingerprint
    assert first.images.root != second.images.root


def test_packed_photos_are_those_of_the_table(world):
    _, tuples = mine(world, pack_images=45)
    assert tuples.packed_size == 45
    packed = PackedPhotos(tuples)
    for row in (0, 7, 29):
        ours = Image.open(io.BytesIO(packed[row]))
        assert (ours.format, ours.size) == ("JPEG", (45, 30))
        original = Image.open(tuples.images.path(row)).resize((45, 30), Image.Resampling.BOX)
        assert np.corrcoef(np.ravel(ours), np.ravel(original))[0, 1] > 0.8
    shutil.rmtree(world / "photos")
    assert len(PackedPhotos(read_tuples(tuples.path))[3]) > 100
    assert not [p for p in world.iterdir() if p.name.startswith(("tmp", "."))]


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_tuple_file_is_one_line(world, keep):
    mine(world, pack_images=40)
    data = (world / "tuples.h5").read_bytes()
    (world / "torn.h5").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(FileFormatError, match=r"torn\.h5") as error:
        read_tuples(world / "torn.h5")
    assert "\n" not in str(error.value)


def test_an_index_is_no_tuple_file(world):
    with pytest.raises(FileFormatError, match="sfm2tuples-index"):
        read_tuples(world / "index.h5")
    with pytest.raises(DataError, match="no such file"):
        read_tuples(world / "absent.h5")


def test_missing_torn_and_senseless_photos_are_left_out_and_named(world):
    index = read_whole(world / "index.h5")
    index.photo_path(1).unlink()
    index.photo_path(8).write_text("this is no photo")
    torn = index.photo_path(15)
    torn.write_bytes(torn.read_bytes()[:700])
    mined, tuples = mine(world, pack_images=40)
    assert len(tuples.images.key) == 27
    assert len(mined.tables.unreadable) == 3
    assert {1, 8, 15}.isdisjoint(tuples.images.index_row)
    network = NetworkChoice(backbone="squeezenet1_1")
    _, described = mine(world, "network.h5", descriptors=None, choice=network, image_size=64)
    assert described.images.key == tuples.images.key
    # Neither packed nor described by a network: tried.
    for name, how in (("file.h5", {}), ("tried.h5", {"options": dataclasses.replace(OPTIONS, negatives="random")})):
        assert mine(world, name, **how)[1].images.key == tuples.images.key


def test_descriptors_that_lack_images_are_refused_in_one_line(world):
    write_descriptors(world / "descriptors.h5", Descriptors(["elsewhere.jpg"], np.array([[1, 0]], np.float32)))
    with pytest.raises(DataError, match=r"30 of 30 names in .*index.h5 have no row here"):
        mine(world, options=dataclasses.replace(OPTIONS, pool=PoolStrategy.of("ends+per-place:99")))


def test_descriptors_and_a_network_exclude_each_other_and_the_default_one_is_loaded_where_one_is_needed(
    world, monkeypatch
):
    with pytest.raises(UsageError, match="--descriptors"):
        mine(world, choice=NetworkChoice(backbone="alexnet"))

    def refuse(device, choice):
        raise UsageError(f"asked for {choice}")

    monkeypatch.setattr(readable_photos, "load_on", refuse)
    with pytest.raises(UsageError, match="backbone=None"):
        mine(world, descriptors=None)
    mine(world, descriptors=None, options=dataclasses.replace(OPTIONS, negatives="random"))


def spoil(file, name, change):
    """Change a column of a descriptor file in place; what it says of its content stays."""
    values = change(file[name][()])
    del file[name]
    file[name] = values


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: np.where(np.arange(16) == 3, np.nan, d), "30 of 30 descriptors hold NaN"),
        (lambda d: d * np.float32(2), "30 of 30 descriptors are not L2-normalised"),
        (lambda d: d[:-1], "descriptors has the shape (29, 16), which does not fit 30 names"),
        (lambda d: d[:, :0], "30 names, but descriptors of shape (30, 0)"),
        (lambda d: d * np.float32(0), "30 of 30 descriptors are all zeros"),
    ],
)
def test_descriptors_that_are_none_are_refused_in_one_line(world, change, words):
    with h5py.File(world / "descriptors.h5", "r+") as file:
        spoil(file, "descriptors", lambda values: change(values).astype(np.float32))
    with pytest.raises(DataError) as error:
        mine(world)
    assert words in str(error.value)
    assert "descriptors.h5" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (world / "tuples.h5").exists()


def test_device_and_block_change_no_byte(world):
    _, first = mine(world)
    _, other = mine(world, "other.h5", device="cpu", block=3)
    assert other.path.read_bytes() == first.path.read_bytes()


def test_a_device_that_is_not_there_is_named(world):
    result = run(world, "--device", "cuda:99")
    assert isinstance(result.exception, UsageError)
    assert "--device cuda:99: cannot be used" in str(result.exception)


def test_a_search_by_lists_leaves_its_recall_in_the_file_and_says_it(world):
    mined, tuples = mine(world, options=dataclasses.replace(OPTIONS, search="ivf"))
    for split in ("train", "val"):
        assert tuples.searches[split] == dataclasses.asdict(mined.searches[split])
        assert tuples.searches[split]["recall"] == 1  # One list of thirty images.
    assert mine(world, "exact.h5")[1].searches == {}
    result = run(world, "--num-negatives", "2", "--search", "ivf")
    assert "100.0% of the exact negatives of" in result.output
    assert inspect_file(tuples.path)["search of train by lists"]["recall"] == 1
    again = run(world, "--num-negatives", "2", "--search", "ivf", "--json", "--force")
    assert json.loads(again.stdout)["train"]["search"]["recall"] == 1


def test_inspect_tells_how_the_evidence_is_distributed(world):
    _, tuples = mine(world)
    evidence = inspect_file(tuples.path)["evidence"]
    train = tuples.tuples["train"]
    columns = (train.overlap, train.scale_change, np.degrees(train.angle), train.positive_similarity,
               train.negative_similarity)  # fmt: skip
    names = ("overlap", "scale change", "angle in degrees", "similarity of positives", "similarity of negatives")
    for name, values in zip(names, columns, strict=True):
        row = evidence[f"train: {name}"]
        assert [row["least"], row["most"]] == pytest.approx([values.min(), values.max()], abs=1e-3)
        assert np.mean(values <= row["90 %"] + 1e-3) >= 0.9
        assert np.mean(values <= row["10 %"] - 1e-3) <= 0.1
        assert row["median"] == pytest.approx(np.median(values), abs=1e-3)
    _, blind = mine(world, "blind.h5", dataclasses.replace(OPTIONS, negatives="random"))
    assert inspect_file(blind.path)["evidence"]["val: similarity of negatives"]["median"] is None


def test_images_of_every_place_are_compared_where_there_are_too_many():
    place = np.repeat(np.arange(4), [50, 3, 10, 1])
    rows = _first_of_places(np.arange(64), place, 22)
    assert np.bincount(place[rows]).tolist() == [9, 3, 9, 1]
    assert len(_first_of_places(np.arange(64), place, 64)) == 64


def test_distractors_of_a_folder_make_too_few_places_enough(world):
    rng, options = np.random.default_rng(5), dataclasses.replace(OPTIONS, num_negatives=6, negatives="random")
    for folder in ("street", "street/left", "park"):
        (world / "others" / folder).mkdir(parents=True)
        (world / "others" / folder / "1.jpg").write_bytes(photo(rng))
    (world / "others" / "park" / "2.jpg").write_bytes((world / "photos" / "model0" / "0.jpg").read_bytes())
    mined, tuples = mine(world, options=options, distractors=world / "others")
    assert tuples.places.name[5:] == ["park", "street", "street/left"]
    assert tuples.images.key[30:] == ["others/park/1.jpg", "others/street/1.jpg", "others/street/left/1.jpg"]
    assert mined.tables.known_distractors == 1
    assert (tuples.tuples["train"].negative >= 0).all()


def test_distractors_of_a_csv_are_those_of_that_role(world):
    images = world / "images"
    images.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (images / name).write_bytes(photo(np.random.default_rng(len(name) + ord(name[0]))))
    table = world / "labels.csv"
    table.write_text("image,label,role\na.jpg,tower,query\nb.jpg,river,distractor\n")
    found = read_distractors(table, world)
    assert (found.key, found.name, found.place) == (["images/b.jpg"], ["b.jpg"], ["river"])
    table.write_text("image,label\na.jpg,tower\nb.jpg,river\n")
    assert read_distractors(table, None).key == ["images/a.jpg", "images/b.jpg"]


@pytest.mark.parametrize("text", ["", "photo,label\na,b\n", "image,label\n", "image,label\na.jpg\n",
                                  "image,label\n../a.jpg,b\n", "image,label\n/a.jpg,b\n"])  # fmt: skip
def test_a_csv_of_distractors_that_makes_no_sense_is_one_line(tmp_path, text):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=r"labels\.csv: ") as error:
        read_distractors(tmp_path / "labels.csv", None)
    assert "\n" not in str(error.value)


def run(world, *flags):
    arguments = [str(world / "index.h5"), "-o", str(world / "out.h5"), "--descriptors", str(world / "descriptors.h5")]
    return CliRunner().invoke(command, [*arguments, *flags])


def test_the_command_says_what_it_made_and_what_is_next(world):
    result = run(world, "--num-negatives", "2", "--query-share", "1")
    assert result.exit_code == 0
    assert "training and" in result.output
    assert "sfm2tuples train" in result.output.splitlines()[-1]


def test_the_command_speaks_json(world):
    # No choice looks at descriptors here, and a file of them would be refused: see test_idle_flags.
    words = ("--num-negatives", "2", "--json", "--positives", "m2", "--negatives", "random")
    target = ("-o", str(world / "out.h5"))
    values = json.loads(CliRunner().invoke(command, [str(world / "index.h5"), *target, *words]).stdout)
    assert values["train"]["tuples"] > 0
    assert values["train"]["negative_similarity"] is None


def test_the_command_does_not_overwrite_unless_told(world):
    Path(world / "out.h5").write_text("precious")
    result = run(world, "--num-negatives", "2")
    assert isinstance(result.exception, UsageError)
    assert (world / "out.h5").read_text() == "precious"
    assert run(world, "--num-negatives", "2", "--force").exit_code == 0


def test_every_field_of_the_options_is_a_flag_of_the_command_with_its_default(world):
    flags = {p.name: p for p in command.params}
    for field in dataclasses.fields(MiningOptions):
        assert flags[field.name].opts == ["--" + field.name.replace("_", "-")]
        assert flags[field.name].default == field.default


EVALUATE = ("evaluate", "--index", "index.h5", "--descriptors", "descriptors.h5", "--min-shared", "2")
COMMANDS = {
    "mine-tuples": ("mine-tuples", "index.h5", "--descriptors", "descriptors.h5", "--num-negatives", "2"),
    "evaluate": (*EVALUATE, "--scale", "2"),
    "evaluate in depths": EVALUATE,
    "whiten": ("whiten", "index.h5", "--descriptors", "descriptors.h5", "--shrinkage", "0.5"),
    "pairs": ("export", "--format", "pairs", "index.h5"),
    "graphml": ("export", "--format", "graphml", "index.h5"),
}
POSES = {"/images/translation"}
READS = {"evaluate": POSES, "evaluate in depths": POSES | {"/points/xyz", "/points/centre"}}
"""Of points, cameras and poses, what a command needs: distances, and depths where no scale gives metres."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_opens_the_index_once_and_reads_points_only_where_it_needs_them(world, monkeypatch, name):
    opened, read = [], set()

    class File(h5py.File):
        def __init__(self, path, *args, **options):
            opened.append(Path(path).name)
            super().__init__(path, *args, **options)

    def item(dataset, rows):
        read.add((Path(dataset.file.filename).name, dataset.name))
        return whole(dataset, rows)

    whole = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py, "File", File)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", item)
    monkeypatch.chdir(world)
    assert run_command(*COMMANDS[name], "-o", "made") == 0
    # `whiten` takes tuple files too, and looks at the header first to know which it was given.
    assert opened.count("index.h5") == (2 if name == "whiten" else 1)
    columns = {dataset for file, dataset in read if file == "index.h5"}
    assert "/covisibility/shared" in columns
    geometry = ("/points/", "/cameras/", "/observations/xy", *POSES)
    assert {c for c in columns if c.startswith(geometry)} == READS.get(name, set())
    assert ("/observations/point" in columns) == (name in READS)


def test_the_command_says_how_many_positives_are_of_another_sequence(world):
    descriptors = ("--descriptors", str(world / "descriptors.h5"))
    words = ("--query-share", "1", "--num-negatives", "2", "--min-overlap", "0.1", "--across", r"[02468]\.jpg")
    ran = CliRunner().invoke(
        command, [str(world / "index.h5"), "-o", str(world / "t.h5"), *descriptors, *words, "--json"]
    )
    result = json.loads(ran.stdout)
    assert result["sequences"] == {"the pattern": 5}
    file = read_tuples(world / "t.h5")
    tuples, sequence = file.tuples["train"], [key[-5] if int(key[-5]) % 2 == 0 else "" for key in file.images.key]
    across = [sequence[q] != sequence[p] for q, p in zip(tuples.query, tuples.positive[:, 0], strict=True)]
    assert 0.5 < result["train"]["across"] == np.mean(across)
    write_report(world / "t.h5", world / "page", ReportOptions(num_tuples=99))
    page, both = (world / "page" / "index.html").read_text(), [*across]
    val = file.tuples["val"]
    both += [sequence[q] != sequence[p] for q, p in zip(val.query, val.positive[:, 0], strict=True)]
    assert [page.count(f"<dt>sequence</dt><dd>{which}</dd>") for which in ("another", "own")] == [
        sum(both),
        both.count(False),
    ]
    label = "share of positives of another sequence"
    assert inspect_file(world / "t.h5")["tuples"][label]["train"] == round(np.mean(across), 3)


def test_the_command_says_how_many_near_duplicates_are_left_out(world):
    words = ("--descriptors", str(world / "descriptors.h5"), "--num-negatives", "2", "--min-overlap", "0.1")
    target = [str(world / "index.h5"), "-o", str(world / "t.h5")]
    said = CliRunner().invoke(command, [*target, *words, "--max-overlap", "0.3"]).stdout
    assert "pairs of photos see almost only the same points and are not taken for positives (--max-overlap)" in said
    _, tuples = mine(world, "all.h5", dataclasses.replace(OPTIONS, query_share=0.1))
    assert len(read_tuples(world / "t.h5").candidates["train"].image) < len(tuples.candidates["train"].image)
