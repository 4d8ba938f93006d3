"""How a network sees a photo: turned by EXIF where that is asked, made smaller by a filter, enlarged by a scale."""

import dataclasses
import io
import math
from pathlib import Path

import numpy as np
import pytest
from hand_made import run
from PIL import Image, ImageOps
from worlds import random_index, read_whole, write_whole

from retrieval.descriptors.described_photos import describe_photos
from retrieval.descriptors.extraction import ExtractionOptions, at_scales, extract, extract_settings
from retrieval.descriptors.query_crops import describe_crops
from retrieval.descriptors.soundness import TURN
from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.choice import NetworkChoice, load_network
from retrieval.networks.network import Network, build_network
from retrieval.photos.decoding import (
    ORIENTATION,
    load_oriented,
    load_photo,
    pack_photo,
    photo_size,
    turned,
    turned_box,
)
from retrieval.photos.formats import readable_formats
from retrieval.photos.sources import photos_of
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.training.loop import train
from retrieval.training.options import options_from_recipe
from retrieval.tuple_files.mining import mine_tuple_file
from retrieval.tuple_files.readable_photos import PhotoOptions
from sfm2tuples.errors import UsageError, WeightsError
from sfm2tuples.files.descriptor_settings import differing
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.tuple_file import TupleFile, read_tuples
from tests.textures import texture

EVERY = range(1, 9)
TURNED = ExtractionOptions(96, upright="exif")


def stored(path: Path, orientation: int, width: int = 120, height: int = 80) -> Path:
    """A photo that its EXIF wants turned."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(texture(3, width, height)).save(path, "PNG", exif=exif)
    return path


def upright(path: Path) -> Path:
    """The same photo, turned by Pillow and stored upright."""
    there = path.with_name(f"upright_{path.name}")
    ImageOps.exif_transpose(Image.open(path)).save(there, "PNG", exif=Image.Exif())
    return there


@pytest.mark.parametrize("orientation", EVERY)
@pytest.mark.parametrize("format", readable_formats())
def test_a_size_is_that_of_the_decoded_photo(format: str, orientation: int) -> None:
    """Of every format, whoever turns it: Pillow turns TIFF, pillow-heif HEIF, and we nothing."""
    data, exif = io.BytesIO(), Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"tiffinfo": {ORIENTATION: orientation}} if format == "TIFF" else {"exif": exif.tobytes()}
    Image.fromarray(texture(3, 120, 80)).save(data, format, **options)
    for source in (data.getvalue(), data.getvalue):
        photo = load_photo(source, 200)
        assert photo_size(source, "a photo") == photo.shape[1::-1]
        assert load_photo(source, 60).shape[:2] == tuple(side // 2 for side in photo.shape[:2])
    assert photo.shape[:2] == ((120, 80) if format in ("TIFF", "HEIF") and orientation > 4 else (80, 120))


@pytest.fixture(scope="module")
def network() -> Network:
    return build_network("squeezenet1_1", "gem")


@pytest.mark.parametrize("orientation", EVERY)
def test_a_photo_is_turned_as_pillow_turns_it_and_a_box_with_it(tmp_path: Path, orientation: int) -> None:
    path = stored(tmp_path / "a.png", orientation)
    photo, found = load_oriented(path, 1024)
    assert found == orientation
    assert photo.shape == (80, 120, 3)  # loading never turns
    seen = turned(photo, orientation)
    np.testing.assert_array_equal(seen, load_photo(upright(path), 1024))
    left, top, right, bottom = turned_box(np.array([10, 20, 40, 70]), 120, 80, orientation)
    np.testing.assert_array_equal(seen[top:bottom, left:right], turned(photo[20:70, 10:40], orientation))


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_network_sees_photos_and_query_boxes_turned(tmp_path: Path, network: Network, orientation: int) -> None:
    path = stored(tmp_path / "a.png", orientation)
    straight, box = upright(path), np.array([10.0, 5, 110, 75])
    plain = ExtractionOptions(96)
    # Pillow rounds between its two passes, so that turning before or after it differs by a level.
    expected = extract(network, [straight], plain)
    np.testing.assert_allclose(extract(network, [path], TURNED), expected, atol=5e-3)
    assert abs(extract(network, [path], plain) - expected).max() > 0.02
    for crop in ("image", "activations"):
        found = describe_crops(network, [path], ["a"], box[None], crop, TURNED, None)
        expected = describe_crops(
            network, [straight], ["a"], turned_box(box, 120, 80, orientation)[None], crop, plain, None
        )
        np.testing.assert_allclose(found.values, expected.values, atol=5e-3)


def test_sideways_photos_are_counted_in_one_line_unless_they_are_turned(tmp_path: Path, network, caplog) -> None:
    for orientation in EVERY:
        stored(tmp_path / f"{orientation}.png", orientation, orientation + 100)
    describe_photos(network, photos_of(tmp_path), ExtractionOptions(64))
    (record,) = caplog.records
    assert record.getMessage().startswith("6 of 8 photos lie sideways by their EXIF and are seen so, first: ")
    assert record.getMessage().endswith(TURN)
    caplog.clear()
    describe_photos(network, photos_of(tmp_path), TURNED)
    assert not caplog.records


def test_settings_name_what_was_chosen_and_older_files_are_the_default(network: Network) -> None:
    plain, other = (extract_settings(network, options) for options in (ExtractionOptions(), TURNED))
    assert plain["filter"] == "bilinear"
    assert "upright" not in plain
    assert other["upright"] == "exif"
    assert [name for name, _, _ in differing(plain, other)] == ["image_size", "upright"]
    assert extract_settings(network, ExtractionOptions(resize_filter="lanczos"))["filter"] == "lanczos"


def test_a_packed_photo_lies_as_the_stored_one_and_says_so(tmp_path: Path) -> None:
    packed = pack_photo(stored(tmp_path / "a.png", 6), 60)
    assert photo_size(packed) == (60, 40)
    assert load_oriented(packed, 60)[1] == 6
    assert not Image.open(io.BytesIO(pack_photo(stored(tmp_path / "b.png", 1), 60))).getexif()


def test_lanczos_is_pillows(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.png", 1)
    expected = Image.open(path).resize((60, 40), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(load_photo(path, 60, resize_filter="lanczos"), np.array(expected))
    assert not np.array_equal(load_photo(path, 60), np.array(expected))


def test_a_scale_above_one_enlarges_from_the_image_size() -> None:
    photo = texture(3, 120, 80)
    larger, same, smaller = at_scales(photo, ExtractionOptions(120, (math.sqrt(2), 1.0, math.sqrt(0.5))))
    assert [larger.shape, same.shape, smaller.shape] == [(113, 170, 3), (80, 120, 3), (57, 85, 3)]
    assert same is photo
    assert abs(larger[::2, ::2].astype(int).mean() - photo.mean()) < 2
    with pytest.raises(UsageError, match="at most 2"):
        ExtractionOptions(120, (2.5,))


@pytest.mark.parametrize("wrong", [{"resize_filter": "nearest"}, {"upright": "always"}])
def test_ways_of_seeing_that_are_unknown_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match="known are bilinear, lanczos; stored, exif"):
        ExtractionOptions(**wrong)


@pytest.fixture(scope="module")
def sideways_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three places, all of whose photos lie sideways, and the photos once more as they want to be seen."""
    folder = tmp_path_factory.mktemp("sideways")
    index = random_index(np.random.default_rng(0), (4, 4, 4), (0, 1, 2), val=1)
    index = dataclasses.replace(
        index, models=dataclasses.replace(index.models, photo_root=[str(folder / "photos")] * 3)
    )
    for row in range(12):
        path = index.photo_path(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        Image.fromarray(texture(row, 120, 80)).save(path, "JPEG", exif=exif, quality=95)
    write_whole(folder / "index.h5", index, {})
    return folder


def mined(world: Path, name: str, network: Network | None = None, **photos: object) -> TupleFile:
    choice = NetworkChoice(backbone="squeezenet1_1") if network is None else NetworkChoice()
    options = MiningOptions(query_share=1.0, num_negatives=1, min_overlap=0.1)
    chosen = PhotoOptions(**({"choice": choice, "image_size": 96, "device": "cpu"} | photos))
    mine_tuple_file(world / "index.h5", world / name, options, chosen)
    return read_tuples(world / name)


def seen_by_mining(world: Path, upright: str | None) -> np.ndarray:
    """Descriptors that the choice of tuples looks at, of every photo."""
    index = read_whole(world / "index.h5")
    paths = [index.photo_path(row) for row in range(12)]
    options = PhotoOptions(NetworkChoice(backbone="squeezenet1_1"), image_size=96, device="cpu", upright=upright)
    with options.open(world / "index.h5", world / "none.h5", MiningOptions()) as photos:
        assert photos.descriptors.add(index.images.key, paths) == {}
        return photos.descriptors.values(index.images.key)


def said_of_sideways(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if "sideways" in record.getMessage()]


def test_mining_sees_photos_turned_and_counts_those_that_it_does_not_turn(sideways_world, network, caplog) -> None:
    index = read_whole(sideways_world / "index.h5")
    straight = [turned(load_photo(index.photo_path(row), 1024), 6) for row in range(12)]
    sources = [encoded(photo) for photo in straight]
    plain = ExtractionOptions(96)
    np.testing.assert_allclose(seen_by_mining(sideways_world, "exif"), extract(network, sources, plain), atol=5e-3)
    assert not said_of_sideways(caplog)
    assert abs(seen_by_mining(sideways_world, None) - extract(network, sources, plain)).max() > 0.02
    (said,) = said_of_sideways(caplog)
    assert said.startswith("12 of 12 photos lie sideways by their EXIF and are seen so, first: ")
    assert said.endswith(TURN)


def encoded(photo: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("packed", [0, 96])
def test_a_training_sees_photos_as_the_tuple_file_was_mined(sideways_world, tmp_path, packed: int) -> None:
    tuples = mined(sideways_world, f"t{packed}.h5", upright="exif", pack_images=packed)
    assert tuples.header.options["upright"] == "exif"
    assert tuples.packed_size == packed
    for upright, shape in (("stored", (64, 96, 3)), ("exif", (96, 64, 3))):
        for workers, decoders in ((0, "threads"), (1, "processes")):
            with TuplePhotos(tuples, 96, workers=workers, decoders=decoders, upright=upright) as photos:
                assert {photo.shape for (photo,) in photos.in_order([[0], [5]])} == {shape}
    options = options_from_recipe("squeezenet1_1", image_size=64, rounds=1, learning_rate=1e-4, min_shared=1)
    shapes: set[tuple[int, ...]] = set()
    network = build_network("squeezenet1_1", "gem")
    network.register_forward_pre_hook(lambda module, inputs: shapes.add(tuple(inputs[0].shape[2:])))
    train(tuples.path, tmp_path / "run", options, network)
    assert shapes == {(64, 43)}  # in mining, in steps and in validation
    trained = load_network(tmp_path / "run" / "last.pt")
    assert trained.upright == "exif"
    assert extract_settings(trained, ExtractionOptions(64))["upright"] == "exif"
    with pytest.raises(UsageError, match=r"upright None \(now stored\)"):
        train(tuples.path, tmp_path / "run", dataclasses.replace(options, upright="stored"), trained, resume=True)


def test_a_training_may_be_told_to_see_photos_as_they_lie(sideways_world, tmp_path) -> None:
    tuples = mined(sideways_world, "told.h5", upright="exif")
    options = options_from_recipe("squeezenet1_1", image_size=64, rounds=0, upright="stored")
    train(tuples.path, tmp_path / "run", options, build_network("squeezenet1_1", "gem"))
    assert load_network(tmp_path / "run" / "last.pt").upright == "stored"


def test_a_network_describes_photos_as_it_was_trained_unless_told_otherwise(tmp_path, network) -> None:
    path, box = stored(tmp_path / "a.png", 6), np.array([[10.0, 5, 110, 75]])
    trained = build_network("squeezenet1_1", "gem")
    trained.upright = "exif"
    save_checkpoint(tmp_path / "n.pt", trained)
    trained, unsaid, told = (
        load_network(tmp_path / "n.pt"),
        ExtractionOptions(96),
        ExtractionOptions(96, upright="stored"),
    )
    np.testing.assert_array_equal(extract(trained, [path], unsaid), extract(network, [path], TURNED))
    np.testing.assert_array_equal(extract(trained, [path], told), extract(network, [path], unsaid))
    assert "upright" not in extract_settings(trained, told)
    for crop in ("image", "activations"):
        found = describe_crops(trained, [path], ["a"], box, crop, unsaid, None)
        expected = describe_crops(network, [path], ["a"], box, crop, TURNED, None)
        np.testing.assert_array_equal(found.values, expected.values)
        assert found.settings["upright"] == "exif"


def test_descriptors_say_how_their_photos_were_seen_to_whoever_mines_with_them(sideways_world, tmp_path) -> None:
    photos = ["--backbone", "squeezenet1_1", "--image-size", 64, "--upright", "exif", "--device", "cpu"]
    assert run("extract", sideways_world / "index.h5", "-o", tmp_path / "d.h5", *photos) == 0
    found = mined(sideways_world, "described.h5", choice=NetworkChoice(), descriptors=tmp_path / "d.h5")
    assert found.header.options["upright"] == "exif"
    with pytest.raises(UsageError, match="was extracted with --upright exif; leave out --upright stored"):
        mined(sideways_world, "no.h5", choice=NetworkChoice(), descriptors=tmp_path / "d.h5", upright="stored")


def test_a_tuple_file_of_photos_that_are_not_turned_says_nothing_new(sideways_world) -> None:
    assert "upright" not in mined(sideways_world, "plain.h5").header.options


def test_a_checkpoint_of_an_unknown_orientation_is_refused(tmp_path) -> None:
    network = build_network("squeezenet1_1", "gem")
    network.upright = "down"
    save_checkpoint(tmp_path / "n.pt", network)
    with pytest.raises(WeightsError, match="its upright is 'down', not stored or exif"):
        load_network(tmp_path / "n.pt")
