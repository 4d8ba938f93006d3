"""Lines between the places where two photos see the same points: right points, right pixels, of the right index."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracles
import pytest
from hand_made import run
from PIL import Image
from worlds import Index, random_index, unit_rows, write_whole

from retrieval.photos.decoding import ORIENTATION, load_photo, turned_box
from retrieval.reports.options import ReportOptions
from retrieval.reports.pair_drawings import (
    GAP,
    MOST_LINES,
    WIDTH,
    DrawnPair,
    PagePhoto,
    PairDrawings,
    evenly_by_height,
)
from retrieval.reports.report import write_report
from retrieval.reports.thumbnails import Thumbnails
from sfm2tuples.covisibility.shared_observations import shared_observations
from sfm2tuples.errors import DataError
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from sfm2tuples.index.opened import open_index
from sfm2tuples.ingest.build import build_index
from sfm2tuples.ingest.options import IngestOptions
from sfm2tuples.world.synthetic import write_world

MINING = ("--query-share", 1, "--num-negatives", 1, "--min-overlap", 0.05, "--quiet")


def index_with_places(seed: int, sizes: tuple[int, ...] = (5, 4), share_unknown: float = 0.2) -> Index:
    """Random images of two models of one place; some observations have no place in their photo."""
    rng = np.random.default_rng(seed)
    index = random_index(rng, sizes, (0,) * len(sizes))
    xy = index.observations.xy
    xy[:] = rng.uniform(0, 100, xy.shape)
    xy[rng.random(len(xy)) < share_unknown] = np.nan
    return index


def lines_of(pair: DrawnPair) -> np.ndarray:
    """(n, 4) of a drawing's lines, in its units; its dots are at their ends."""
    svg = str(pair.svg)
    lines = [list(map(int, line)) for line in re.findall(r"M(-?\d+) (-?\d+)L(-?\d+) (-?\d+)", svg)]
    dots = re.findall(r"M(-?\d+) (-?\d+)h0M(-?\d+) (-?\d+)h0", svg)
    assert [list(map(int, dot)) for dot in dots] == lines
    return np.array(lines)


@pytest.mark.parametrize("seed", range(8))
def test_shared_observations_are_those_of_dictionaries(seed: int) -> None:
    index = index_with_places(seed)
    opened, graph = index.opened(), index.covisibility
    twice = np.diff(index.observations.indptr) > index.images.observed
    assert twice.any()  # images that observe a point twice
    for first in range(9):
        neighbours = slice(*graph.indptr[first : first + 2])
        shared = dict(zip(graph.neighbour[neighbours].tolist(), graph.shared[neighbours].tolist(), strict=True))
        for second in range(9):
            expected = oracles.shared_observations(index, first, second)
            found = shared_observations(opened, first, index.images.key[second])
            assert index.points.id[found.point].tolist() == list(expected)
            for side, xy in enumerate((found.first, found.second)):
                places = [None if np.isnan(at).any() else tuple(at) for at in xy.tolist()]
                assert places == [both[side] for both in expected.values()]
            if first != second:
                assert len(found.point) == shared.get(second, 0)


@pytest.mark.parametrize("count", [0, 1, 5, MOST_LINES, MOST_LINES + 1, 1000])
def test_lines_are_chosen_evenly_from_the_highest_to_the_lowest(count: int) -> None:
    rng = np.random.default_rng(count)
    lines = rng.permuted(np.c_[np.arange(count), np.arange(count), np.zeros((count, 2))], axis=0)
    lines[:, 1] = lines[:, 0]
    chosen = lines[evenly_by_height(lines)][:, 1]
    assert len(chosen) == min(count, MOST_LINES)
    if count:
        steps = np.diff(chosen)
        assert chosen[0] <= count / MOST_LINES
        assert chosen[-1] >= count - 1 - count / MOST_LINES
        assert len(steps) == 0 or 1 <= steps.min() <= steps.max() <= np.ceil(count / len(chosen))


MARK, SIDES = np.array([30.5, 12.5]), (120, 80)
"""Where a photo has its red pixel, and how large it is as it is stored."""


def photo_with_mark(orientation: int = 1) -> bytes:
    """A grey photo with a red pixel; EXIF may turn it."""
    pixels = np.full((SIDES[1], SIDES[0], 3), 128, np.uint8)
    pixels[int(MARK[1]), int(MARK[0])] = 255, 0, 0
    exif, file = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(file, "JPEG", quality=100, subsampling=0, exif=exif.tobytes())
    return file.getvalue()


def drawings_of_marks(
    folder: Path, photos: list[bytes | None], xy: np.ndarray, camera: tuple[int, int]
) -> tuple[PairDrawings, list[PagePhoto]]:
    """Photos of one model that all see point 0 at `xy`, by a camera of that size."""
    count = len(photos)
    index = random_index(np.random.default_rng(0), (count,), (0,))
    seen = replace(
        index.observations,
        indptr=np.arange(count + 1),
        point=np.zeros(count, np.int64),
        xy=np.tile(xy, (count, 1)).astype(np.float32),
    )
    index.cameras.size[:] = camera
    opened = replace(index, observations=seen).opened()
    folder.mkdir()
    thumbnails, shown = Thumbnails(folder, 320), []
    for row, photo in enumerate(photos):
        (folder / f"{row}.jpg").write_bytes(photo or b"none")
        url = thumbnails.url(row, f"{row}.jpg", lambda row: folder / f"{row}.jpg")
        shown.append(PagePhoto(url, f"{row}.jpg", (row,), lambda: SIDES))
    return PairDrawings(opened, thumbnails), shown


def pixel_below(pair: DrawnPair, folder: Path, side: int) -> np.ndarray:
    """Which pixel of the picture is below the only line's end, (x, y): the red one."""
    photo = pair.photos[side]
    with Image.open(folder / photo.url) as written:
        assert written.getexif().get(ORIENTATION, 1) == 1  # else browsers turn it: some do, some do not
    picture = load_photo(folder / photo.url, 1000)
    x, y = lines_of(pair)[0, 2 * side : 2 * side + 2]
    across = (x - photo.left / 100 * WIDTH) / (photo.width / 100 * WIDTH)
    found = np.array([across * picture.shape[1], y / pair.height * picture.shape[0]])
    red = np.unravel_index(np.argmax(picture[..., 0].astype(int) - picture[..., 1]), picture.shape[:2])
    np.testing.assert_allclose(found, np.array(red[::-1]) + 0.5, atol=0.3)  # units of the drawing are rounded
    return found


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_line_ends_on_what_the_photo_shows_there_however_exif_turns_it(tmp_path: Path, orientation: int) -> None:
    """COLMAP measures in stored pixels, whatever EXIF says; other programs turn the photo first."""
    photos: list[bytes | None] = [photo_with_mark(orientation), photo_with_mark()]
    seen = turned_box(np.r_[MARK, MARK], *SIDES, orientation)[:2]
    drawings, shown = drawings_of_marks(tmp_path / "stored", photos, MARK, SIDES)
    pair = drawings.draw(shown[0], shown[1])
    assert pair is not None
    np.testing.assert_allclose(pixel_below(pair, tmp_path / "stored", 0), seen, atol=0.3)
    np.testing.assert_allclose(pixel_below(pair, tmp_path / "stored", 1), MARK, atol=0.3)
    drawings, shown = drawings_of_marks(tmp_path / "turned", photos[:1] * 2, seen, SIDES[::-1])
    pair = drawings.draw(shown[0], shown[1])
    assert (pair is None) == (orientation < 5)  # else no turn makes this camera's shape of the photo's
    if pair is not None:
        np.testing.assert_allclose(pixel_below(pair, tmp_path / "turned", 0), seen, atol=0.3)


def test_places_are_scaled_from_the_camera_and_counted_from_the_centre_where_it_has_no_size(tmp_path: Path) -> None:
    photos: list[bytes | None] = [photo_with_mark(), photo_with_mark()]
    for name, xy, camera in (("larger", MARK * 7, (840, 560)), ("none", MARK - [60, 40], (0, 0))):
        drawings, shown = drawings_of_marks(tmp_path / name, photos, xy, camera)
        pair = drawings.draw(shown[0], shown[1])
        assert pair is not None
        assert pair.said == "1 point that both see"
        assert pixel_below(pair, tmp_path / name, 1) == pytest.approx(MARK, abs=0.3)
    assert pair.photos[1].left == pytest.approx(pair.photos[0].width + 100 * GAP / WIDTH)


def test_a_photo_that_is_gone_or_of_another_shape_and_a_point_without_a_place_are_not_drawn(tmp_path: Path) -> None:
    marked = photo_with_mark()
    drawings, shown = drawings_of_marks(tmp_path / "gone", [marked, None], MARK, SIDES)
    assert drawings.draw(shown[0], shown[1]) is None
    assert drawings.draw(shown[0], replace(shown[0], url="")) is None
    assert drawings.draw(shown[0], shown[0]) is not None
    drawings, shown = drawings_of_marks(tmp_path / "shape", [marked, marked], MARK, (100, 100))
    assert drawings.draw(shown[0], shown[1]) is None
    drawings, shown = drawings_of_marks(tmp_path / "unknown", [marked, marked], MARK * np.nan, SIDES)
    assert drawings.draw(shown[0], shown[1]) is None


def test_of_a_photo_in_two_models_the_images_with_most_shared_points_are_drawn(tmp_path: Path) -> None:
    index = index_with_places(5, share_unknown=0)
    index.cameras.size[:] = SIDES
    opened, rows = index.opened(), {}
    rows["one"], rows["other"] = (0, 5), (1, 6)
    thumbnails = Thumbnails(tmp_path, 320)
    url = thumbnails.url(0, "a", lambda _: photo_with_mark())
    shown = {name: PagePhoto(url, name, both, lambda: SIDES) for name, both in rows.items()}
    pair = PairDrawings(opened, thumbnails).draw(shown["one"], shown["other"])
    shared = [len(oracles.shared_observations(index, *two)) for two in ((0, 1), (5, 6))]
    assert shared[0] != shared[1]
    assert min(shared) > 0
    assert pair is not None
    assert pair.said == f"{max(shared)} points that both see"
    assert len(lines_of(pair)) == max(shared)
    apart = replace(shown["other"], rows=(6,))  # two models of one place have no point in common
    assert PairDrawings(opened, thumbnails).draw(replace(shown["one"], rows=(0,)), apart) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in world, its whole and lean index, and tuples mined from it."""
    made = tmp_path_factory.mktemp("drawn")
    write_world(made / "world", places=3, photos_per_place=6, size=(96, 72), jobs=1)
    for keep in ("all", "graph"):
        build_index([made / "world"], made / f"{keep}.h5", IngestOptions(keep=keep, inside=False))
    with open_index(made / "all.h5") as index:
        keys = list(dict.fromkeys(index.images.key[:]))
    write_descriptors(made / "d.h5", Descriptors(keys, unit_rows(np.random.default_rng(0), len(keys), 8)))
    mine = ("mine-tuples", made / "all.h5", "-o", made / "tuples.h5", "--descriptors", made / "d.h5")
    assert run(*mine, *MINING) == 0
    return made


def text_of(source: Path, target: Path, **options: object) -> str:
    return write_report(source, target, ReportOptions(**options)).page.read_text(encoding="utf-8")  # type: ignore[arg-type]


def test_a_page_of_tuples_draws_as_many_points_as_spoke_for_the_positive(folder: Path, tmp_path: Path) -> None:
    plain = text_of(folder / "tuples.h5", tmp_path / "plain", num_pairs=0)
    assert "over-photos" not in re.sub("<style>.*?</style>", "", plain, flags=re.S)
    page = text_of(folder / "tuples.h5", tmp_path / "page", num_pairs=0, index=folder / "all.h5")
    montages = re.findall('<article class="montage.*?</article>', page, flags=re.S)
    assert len(montages) > 3
    for montage in montages:
        [told] = re.findall(r"<dt>shared points</dt><dd>([\d,]+)</dd>", montage)
        [drawn] = re.findall(r"<figcaption>([\d,]+) points? that both see", montage)
        assert drawn == told
    assert len(set(re.findall(r' id="(dots\d+)"', page))) == page.count('class="ring"') == len(montages)


def test_pairs_to_check_are_drawn_on_both_pages_and_typical_pairs_of_an_index(folder: Path, tmp_path: Path) -> None:
    for source, options in (("tuples", {"index": folder / "all.h5"}), ("all", {"descriptors": folder / "d.h5"})):
        page = text_of(folder / f"{source}.h5", tmp_path / source, num_tuples=0, **options)
        check = page[page.index('id="check"') :].split("</section>")[0]
        assert 0 < check.count('class="over-photos"') <= check.count('class="pair"')
        for address in re.findall(r'src="([^"]+)"', page):
            assert (tmp_path / source / address).is_file()
    assert page.split('id="shared"')[1].split("</section>")[0].count('class="over-photos"') == 3
    lean = text_of(folder / "graph.h5", tmp_path / "lean", descriptors=folder / "d.h5")
    assert 'class="over-photos"' not in lean
    assert "Typical pairs" not in lean


def test_an_index_that_is_another_or_lean_or_not_asked_for_is_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_whole(tmp_path / "other.h5", index_with_places(1))
    with pytest.raises(DataError, match=r"other\.h5: is another index \(.{12}\) than .*tuples\.h5 was mined from"):
        text_of(folder / "tuples.h5", tmp_path / "page", index=tmp_path / "other.h5")
    for source, index, said in (
        ("tuples.h5", tmp_path / "other.h5", "is another index"),
        ("tuples.h5", folder / "graph.h5", "lean index, without points and observations, which this needs; build it"),
        ("tuples.h5", folder / "d.h5", "d.h5"),
        ("all.h5", folder / "all.h5", "--index"),
    ):
        assert run("report", folder / source, "-o", tmp_path / "page", "--index", index) != 0
        found = capsys.readouterr().err.strip()
        assert said in found
        assert "\n" not in found
        assert not (tmp_path / "page").exists()
