"""The page of a tuple file: every number, hostile names, photos that are not there, a folder that appears whole."""

from __future__ import annotations

import html
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cli.commands.report import command
from retrieval.reports.drawings import Series, histogram
from retrieval.reports.options import ReportOptions
from retrieval.reports.report import write_report
from retrieval.reports.sections.evidence import evidence_figures
from retrieval.reports.sections.tuples import choose_balanced
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.files.container import create_file
from sfm2tuples.mining.tuple_file import Candidates, ImageTable, PlaceTable, TupleSet, read_tuples, write_tuples

HOSTILE = '<script>alert("1")</script>&\'.jpg'


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 32), (shade, 90, 160)).save(file, "JPEG")
    return file.getvalue()


def no_candidates() -> Candidates:
    none = np.zeros(0, np.int64)
    return Candidates(none, np.zeros(1, np.int64), none, none.astype(np.int32), *(none.astype(np.float32),) * 3)


def tuple_set(query: list[int], positive: list[list[int]], negative: list[list[int]]) -> TupleSet:
    """Tuples whose every number differs from every other."""
    p, n = np.array(positive, np.int64), np.array(negative, np.int64)
    step = np.arange(p.size).reshape(p.shape)
    return TupleSet(
        query=np.array(query, np.int64),
        positive=p,
        negative=n,
        shared=(1234 + step).astype(np.int32),
        overlap=(0.31 + 0.01 * step).astype(np.float32),
        scale_change=(1.21 + 0.01 * step).astype(np.float32),
        angle=np.radians(12.3 + step).astype(np.float32),
        positive_similarity=(0.811 + 0.001 * step).astype(np.float32),
        negative_similarity=np.where(n >= 0, 0.601 + 0.001 * np.arange(n.size).reshape(n.shape), -np.inf).astype("f4"),
        pool=np.arange(4),
    )


def write_example(path: Path, photos: Path, packed: bool = False, keys: list[str] | None = None) -> Path:
    """Six images of three places; the validation tuple lacks a negative."""
    photos.mkdir(exist_ok=True)
    names = [f"{row}.jpg" for row in range(6)]
    for row, name in enumerate(names):
        (photos / name).write_bytes(jpeg(40 * row))
    images = ImageTable(
        keys or [f"scene/{name}" for name in names],
        [str(photos)] * 6,
        names,
        np.array([0, 0, 1, 1, 2, 2]),
        np.tile([48, 32], (6, 1)),
        np.arange(6),
    )
    tuples = {
        "train": tuple_set([0, 2], [[1], [3]], [[2], [0]]),
        "val": tuple_set([4], [[5]], [[1, -1]]),
    }
    places = PlaceTable(["castle <b>", "bridge", "church"], np.array([0, 0, 1], np.int8))
    write_tuples(
        path,
        images,
        places,
        tuples,
        {"train": no_candidates(), "val": no_candidates()},
        {"positives": "m3", "network": {"backbone": "alexnet"}},
        ["f" * 64],
        [jpeg(40 * row) for row in range(6)] if packed else None,
        48 if packed else 0,
    )
    return path


@pytest.fixture
def tuples_file(tmp_path: Path) -> Path:
    return write_example(tmp_path / "tuples.h5", tmp_path / "photos")


def page_of(source: Path, target: Path, **options: int) -> str:
    return write_report(source, target, ReportOptions(**options)).page.read_text(encoding="utf-8")


class _Elements(HTMLParser):
    """Tags and the addresses that they load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_holds_every_number_of_every_tuple(tuples_file: Path, tmp_path: Path) -> None:
    page = page_of(tuples_file, tmp_path / "page")
    for number in ("1,234", "1,235", "0.31", "0.32", "1.21×", "1.22×", "12.3°", "13.3°", "0.811", "0.812", "0.601"):
        assert page.count(f">{number}<") >= 1, number
    for key in range(6):
        assert f"scene/{key}.jpg" in page


def test_the_page_says_what_the_file_was_made_from(tuples_file: Path, tmp_path: Path) -> None:
    page = page_of(tuples_file, tmp_path / "page")
    assert read_tuples(tuples_file).header.fingerprint in page
    assert "f" * 64 in page
    assert "m3" in page
    assert "backbone alexnet" in page


def test_every_photo_of_the_page_is_in_its_folder_and_nothing_comes_from_elsewhere(
    tuples_file: Path, tmp_path: Path
) -> None:
    elements = _Elements(page_of(tuples_file, tmp_path / "page"))
    assert len(elements.addresses) > 6
    for address in elements.addresses:
        assert address.startswith("#") or (tmp_path / "page" / address).is_file()
    assert {"script", "link", "iframe"} & set(elements.tags) == set()


def test_packed_photos_need_no_photo_files(tmp_path: Path) -> None:
    source = write_example(tmp_path / "tuples.h5", tmp_path / "photos", packed=True)
    for photo in (tmp_path / "photos").iterdir():
        photo.unlink()
    report = write_report(source, tmp_path / "page", ReportOptions())
    assert (report.photos, report.missing) == (6, [])


def test_a_photo_is_made_small_enough(tuples_file: Path, tmp_path: Path) -> None:
    page_of(tuples_file, tmp_path / "page", photo_size=24)
    with Image.open(tmp_path / "page/photos/000003.jpg") as photo:
        assert photo.size == (24, 16)


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    keys = [f"{row}/{HOSTILE}" for row in range(6)]
    page = page_of(write_example(tmp_path / "tuples.h5", tmp_path / "photos", keys=keys), tmp_path / "page")
    elements = _Elements(page)
    assert "script" not in elements.tags
    assert page.count(" onerror") == 0
    assert HOSTILE in html.unescape(page)
    assert "castle <b>" not in page
    assert "castle &lt;b&gt;" in page


def test_a_missing_or_unreadable_photo_gets_a_placeholder_and_is_counted(tuples_file: Path, tmp_path: Path) -> None:
    (tmp_path / "photos/1.jpg").unlink()
    (tmp_path / "photos/3.jpg").write_bytes(b"no photo")
    report = write_report(tuples_file, tmp_path / "page", ReportOptions())
    assert sorted(report.missing) == ["scene/1.jpg", "scene/3.jpg"]
    assert report.photos == 4
    page = report.page.read_text(encoding="utf-8")
    assert "2 of the photos below cannot be read" in page
    assert "photo cannot be read" in page
    assert not (tmp_path / "page/photos/000001.jpg").exists()


def test_a_missing_negative_is_an_empty_tile(tuples_file: Path, tmp_path: Path) -> None:
    page = page_of(tuples_file, tmp_path / "page")
    assert page.count("no negative") == 1
    assert "-inf" not in page
    assert "nan" not in re.sub("<style>.*?</style>", "", page, flags=re.S).lower()


def test_a_scale_change_that_is_not_known_is_said_so(tmp_path: Path) -> None:
    source = write_example(tmp_path / "tuples.h5", tmp_path / "photos")
    file = read_tuples(source)
    unknown = replace(file.tuples["train"], scale_change=np.array([[np.nan], [1.5]], np.float32))
    write_tuples(
        source,
        file.images,
        file.places,
        {**file.tuples, "train": unknown},
        file.candidates,
        {},
        [],
    )
    page = page_of(source, tmp_path / "page")
    assert page.count("not known") == 1
    assert evidence_figures(read_tuples(source))[2]["legend"][0] == ("train", "training", 1, "1.50")


def test_what_no_tuple_has_is_neither_drawn_nor_given_a_median(tmp_path: Path) -> None:
    source = write_example(tmp_path / "tuples.h5", tmp_path / "photos")
    file = read_tuples(source)
    empty = file.tuples["val"].take(np.zeros(0, np.int64))
    write_tuples(source, file.images, file.places, {**file.tuples, "val": empty}, file.candidates, {}, [])
    page = page_of(source, tmp_path / "page")
    assert "Similarity, training" in page
    assert "Similarity, validation" not in page
    assert "no values" not in page
    assert not [
        name
        for figure in evidence_figures(read_tuples(source))
        for _, name, *_ in figure["legend"]
        if name == "validation"
    ]


def test_one_of_a_thing_is_not_called_several(tmp_path: Path) -> None:
    page = page_of(write_example(tmp_path / "tuples.h5", tmp_path / "photos"), tmp_path / "page")
    said = [" ".join(re.sub("<[^>]+>", " ", found).split()) for found in re.findall(r'card stat">(.*?)</div>', page)]
    assert said[3:] == ["1 validation tuple", "1 different query", "1 place of queries"]
    assert "<dd>1 time</dd>" in page
    assert not re.search(r"\b1 (times|tuples|queries|places|photos|images|pairs|points)\b", re.sub("<[^>]+>", "", page))


def test_num_tuples_bounds_the_tuples_of_each_split(tuples_file: Path, tmp_path: Path) -> None:
    page = page_of(tuples_file, tmp_path / "page", num_tuples=1)
    assert page.count('class="montage card"') == 2


def test_the_place_chosen_most_often_as_negative_comes_first(tuples_file: Path, tmp_path: Path) -> None:
    file = read_tuples(tuples_file)
    train = tuple_set([0, 2, 3], [[1], [3], [2]], [[2], [0], [1]])
    write_tuples(tuples_file, file.images, file.places, {**file.tuples, "train": train}, file.candidates, {}, [])
    page = page_of(tuples_file, tmp_path / "page")
    frequent = page[page.index('id="frequent"') : page.index('id="train"')]
    assert frequent.index("castle") < frequent.index("bridge")
    assert "2 times" in frequent
    assert "66.7 %" in frequent


def test_tuples_are_chosen_evenly_over_places() -> None:
    places = np.array([5] * 50 + [7] * 2 + [9] * 10)
    chosen = choose_balanced(places, 12)
    assert np.bincount(places[chosen])[[5, 7, 9]].tolist() == [5, 2, 5]
    assert len(set(chosen.tolist())) == 12


@pytest.mark.parametrize("count", [0, 1, 3, 4, 100])
def test_choosing_gives_as_many_different_rows_as_there_are(count: int) -> None:
    places = np.array([0, 1, 1, 2])
    chosen = choose_balanced(places, count)
    assert len(set(chosen.tolist())) == len(chosen) == min(count, 4)
    assert len(set(places[chosen].tolist())) == min(count, 3)


@pytest.mark.parametrize("first", [0.1, 0.3])  # 3 x 0.1, the first tick, is more than 0.3
def test_a_histogram_counts_every_finite_value_once(first: float) -> None:
    values = np.array([first, 0.5, 0.5, 0.8, np.nan, -np.inf])
    counts = re.findall(r"train, \S+ to \S+: (\d+) of 4", histogram([Series("train", values)], "overlap"))
    assert sum(map(int, counts)) == 4
    assert Series("train", values).median == 0.5


@pytest.mark.parametrize("values", [[], [3.0], [-1e-9, 1e9], [0.5, 0.5]])
def test_a_histogram_of_few_or_extreme_values_is_drawn(values: list[float]) -> None:
    drawing = str(histogram([Series("train", np.array(values)), Series("val", np.zeros(0))], "a < b"))
    assert "nan" not in drawing
    assert "a &lt; b" in drawing
    assert ("no values" in drawing) == (not values)


def test_a_page_stands_until_it_may_be_replaced(tuples_file: Path, tmp_path: Path) -> None:
    page_of(tuples_file, tmp_path / "page")
    (tmp_path / "page/photos/old.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="--force"):
        write_report(tuples_file, tmp_path / "page", ReportOptions())
    write_report(tuples_file, tmp_path / "page", ReportOptions(), force=True)
    assert not (tmp_path / "page/photos/old.jpg").exists()


def test_force_leaves_a_folder_alone_that_is_no_page(tuples_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a page"):
        write_report(tuples_file, tmp_path / "photos", ReportOptions(), force=True)
    assert (tmp_path / "photos/0.jpg").is_file()


def test_a_page_that_fails_leaves_the_old_one_and_nothing_beside(
    tuples_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = page_of(tuples_file, tmp_path / "page")

    def fail(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("retrieval.reports.thumbnails.pack_photo", fail)
    with pytest.raises(KeyboardInterrupt):
        write_report(tuples_file, tmp_path / "page", ReportOptions(), force=True)
    assert (tmp_path / "page/index.html").read_text(encoding="utf-8") == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["page", "photos", "tuples.h5"]


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    with create_file(tmp_path / "found.h5", "sfm2tuples-ranks", 1, {}) as file:
        file["x"] = np.zeros(1)
    (tmp_path / "notes.txt").write_text("notes")
    for name, message in (
        ("notes.txt", "is no file that"),
        ("notes.json", "is no evaluation"),
        ("found.h5", "sfm2tuples-ranks, which has no report"),
    ):
        with pytest.raises(FileFormatError, match=message) as error:
            write_report(tmp_path / name, tmp_path / "page", ReportOptions())
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="no such file"):
        write_report(tmp_path / "absent.h5", tmp_path / "page", ReportOptions())
    assert not (tmp_path / "page").exists()


def test_the_command_says_what_it_made_and_warns_of_missing_photos(tuples_file: Path, tmp_path: Path) -> None:
    (tmp_path / "photos/1.jpg").unlink()
    result = CliRunner().invoke(command, [str(tuples_file), "-o", str(tmp_path / "page")])
    assert result.exit_code == 0, result.output
    assert f"made {tmp_path / 'page/index.html'}: a page with 5 photos" in result.output
    assert "scene/1.jpg" in result.output


def test_the_flags_are_the_fields_of_the_options() -> None:
    # What is no number has no default, which click calls something else than None.
    flags = {p.name: p.default if isinstance(p.default, int) else None for p in command.params}
    assert {name: flags[name] for name in vars(ReportOptions())} == vars(ReportOptions())


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError):
        ReportOptions(num_tuples=-1)
    with pytest.raises(UsageError):
        ReportOptions(photo_size=0)
    with pytest.raises(UsageError, match="--num-queries -1"):
        ReportOptions(num_queries=-1)
    with pytest.raises(UsageError, match="keeps the first 20"):
        ReportOptions(num_ranked=21)


def test_an_evaluation_to_compare_with_that_is_absent_is_named(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text("{}")
    options = ReportOptions(compare=tmp_path / "absent.json")
    with pytest.raises(DataError, match=r"absent\.json: no such file; --compare takes what evaluate -o wrote"):
        write_report(tmp_path / "e.json", tmp_path / "page", options)
    assert not (tmp_path / "page").exists()


def test_a_photo_that_stands_upright_does_not_stretch_its_frame(tmp_path: Path) -> None:
    """In the flow of the page its height would be the row's, and the frame would cut off what is below."""
    write_report(write_example(tmp_path / "t.h5", tmp_path / "photos"), tmp_path / "page", ReportOptions())
    style = (tmp_path / "page" / "index.html").read_text().partition("</style>")[0]
    rule = re.search(r"\.photo img \{([^}]*)\}", style)
    assert rule is not None
    assert {"position: absolute", "inset: 0", "object-fit: contain"} <= {part.strip() for part in rule[1].split(";")}
