"""The page of an evaluation: frames, orders, two ways compared, boxes, photos that are not there, wrong files."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made import run
from PIL import Image
from test_benchmarks import GND, IMLIST, ORIGINAL, REVISITED, write_json

from retrieval.evaluation.evaluation_file import PhotoFolders, read_evaluation
from retrieval.photos.decoding import ORIENTATION
from retrieval.reports.drawings import scatter
from sfm2tuples.errors import FileFormatError
from sfm2tuples.files.descriptors import Descriptors, write_descriptors

HOSTILE = "<img src=x onerror=alert(1)>"
RANKINGS = {
    # Label a has three photos, b two, and there are two distractors.
    "a/1.jpg": ["a/1.jpg", "a/2.jpg", "c/1.jpg", "a/3.jpg"],
    "b/1.jpg": ["c/1.jpg", "c/2.jpg", "a/1.jpg", "a/2.jpg"],
}
OTHER = {
    "a/1.jpg": ["c/1.jpg", "c/2.jpg", "a/2.jpg", "a/3.jpg"],
    "b/1.jpg": ["b/2.jpg", "c/1.jpg"],
}
PHOTOS = ("a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "b/2.jpg", "c/1.jpg", "c/2.jpg")


def write_photo(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (48, 32), (shade, 90, 160)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos, labels, and two lists of rankings."""
    for number, name in enumerate(PHOTOS):
        write_photo(tmp_path / "photos" / name, 30 * number)
    roles = {"a/1.jpg": "query", "b/1.jpg": "query", "c/1.jpg": "distractor", "c/2.jpg": "distractor"}
    rows = [f"{name},{name[0]},{roles.get(name, 'database')}" for name in PHOTOS]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label,role", *rows]) + "\n")
    for file, rankings in (("rankings.txt", RANKINGS), ("other.txt", OTHER)):
        (tmp_path / file).write_text("".join(f"{query} {' '.join(names)}\n" for query, names in rankings.items()))
    return tmp_path


def evaluate(folder: Path, rankings: str, name: str, *words: object) -> Path:
    labels = ("--labels", folder / "labels.csv", "--images", folder / "photos")
    assert run("evaluate", *labels, "--rankings", folder / rankings, *words, "-o", folder / name) == 0
    return folder / name


def page(source: Path, *words: object) -> str:
    target = source.parent / "page"
    assert run("report", source, "-o", target, "--force", *words) == 0
    return (target / "index.html").read_text(encoding="utf-8")


def section(text: str, name: str) -> str:
    return text[text.index(f'<section id="{name}">') :].split("</section>")[0]


def captions(text: str) -> list[tuple[str, str]]:
    """What each picture is said to be, and its name, in their order."""
    found = re.findall(r'<div class="role">(.*?)</div>\s*<div class="name" title="(.*?)">', text)
    return [(said, html.unescape(name)) for said, name in found]


def test_pictures_are_framed_by_what_they_are_in_the_order_in_which_they_were_found(folder: Path) -> None:
    text = page(evaluate(folder, "rankings.txt", "r.json"))
    assert captions(section(text, "best")) == [
        ("query", "a/1.jpg"),
        ("1: right", "a/2.jpg"),
        ("2: wrong", "c/1.jpg"),
        ("3: right", "a/3.jpg"),
    ]
    best = section(text, "best")
    for role, count in (("query", 1), ("right", 2), ("wrong", 1), ("junk", 0)):
        assert best.count(f'<figure class="tile {role}">') == count


def test_the_worst_query_comes_first_and_says_which_right_image_was_never_found(folder: Path) -> None:
    text = page(evaluate(folder, "rankings.txt", "r.json"))
    worst = captions(section(text, "worst"))
    assert worst[0] == ("query", "b/1.jpg")
    assert worst[-1] == ("right: never ranked", "b/2.jpg")
    assert "average precision <b>0.000</b>" in section(text, "worst")


def test_num_ranked_bounds_the_pictures_and_the_late_ones_follow_with_their_ranks(folder: Path) -> None:
    text = page(evaluate(folder, "rankings.txt", "r.json"), "--num-ranked", 1)
    assert captions(section(text, "best")) == [
        ("query", "a/1.jpg"),
        ("1: right", "a/2.jpg"),
        ("right: rank 3", "a/3.jpg"),
    ]


def test_junk_takes_no_picture_s_place_and_much_of_it_is_counted(folder: Path) -> None:
    result = evaluate(folder, "rankings.txt", "r.json")
    content = json.loads(result.read_text())
    entry = content["per_query"][0]
    junk = [f"d/{number}.jpg" for number in range(5)]
    entry["first"] = [entry["query"], *junk, *entry["first"][1:]]
    entry["verdicts"] = ["junk"] * 6 + entry["verdicts"][1:]
    result.write_text(json.dumps(content))
    best = section(page(result, "--num-ranked", 2), "best")
    assert captions(best)[1:5] == [
        ("junk", "d/0.jpg"),
        ("junk", "d/1.jpg"),
        ("1: right", "a/2.jpg"),
        ("2: wrong", "c/1.jpg"),
    ]
    assert "3 more junk images between them" in best


def test_the_first_right_image_is_named_where_it_came_late(folder: Path) -> None:
    result = evaluate(folder, "rankings.txt", "r.json")
    content = json.loads(result.read_text())
    entry = content["per_query"][0]
    entry |= {"ranks": [40, 50], "first": [], "verdicts": [], "nearest": "a/2.jpg"}
    entry["last"] = [{"image": "a/3.jpg", "rank": 50}]
    result.write_text(json.dumps(content))
    assert captions(section(page(result), "best"))[1:] == [("right: rank 41", "a/2.jpg"), ("right: rank 51", "a/3.jpg")]


def test_similarities_are_shown_where_descriptors_rank(folder: Path) -> None:
    angles = np.radians([0, 10, 20, 90, 95, 60, 80])
    values = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    write_descriptors(folder / "d.h5", Descriptors(list(PHOTOS), values))
    labels = ("--labels", folder / "labels.csv", "--images", folder / "photos")
    assert run("evaluate", *labels, "--descriptors", folder / "d.h5", "-o", folder / "r.json") == 0
    text = page(folder / "r.json")
    for cosine in np.cos(np.radians([10, 20, 60])):
        assert f">{cosine:.3f}</span>" in text
    assert run("evaluate", *labels, "--descriptors", folder / "d.h5", "--qe", "average:1", "-o", folder / "q.json") == 0
    assert "similarity to the query" not in page(folder / "q.json")


def test_no_query_is_among_the_worst_and_the_best(folder: Path) -> None:
    text = page(evaluate(folder, "rankings.txt", "r.json"), "--num-queries", 5)
    queries = [name for part in ("worst", "best") for said, name in captions(section(text, part)) if said == "query"]
    assert sorted(queries) == ["a/1.jpg", "b/1.jpg"]


def test_two_evaluations_of_the_same_queries_are_set_against_each_other(folder: Path) -> None:
    other = evaluate(folder, "other.txt", "other.json")
    text = page(evaluate(folder, "rankings.txt", "r.json"), "--compare", other)
    differ = section(text, "differ")
    first, second = differ.split("other is ahead most")
    assert [name for said, name in captions(first) if said == "query"] == ["a/1.jpg", "a/1.jpg"]
    assert [name for said, name in captions(second) if said == "query"] == ["b/1.jpg", "b/1.jpg"]
    assert "<b>1</b><span>query in which r is ahead" in text
    assert re.findall(r"<td>(labels, \w+)</td>", text) == ["labels, r", "labels, other"]
    assert re.findall(r'<td class="text">(\w+\.txt)</td>', text) == ["rankings.txt", "other.txt"]
    assert differ.count("<circle") == 2


def test_a_page_has_both_means_how_sure_they_are_and_whether_a_gain_is_chance(folder: Path) -> None:
    # Three queries of two labels: the mean over labels is not that over queries.
    text = (folder / "labels.csv").read_text().replace("a/2.jpg,a,database", "a/2.jpg,a,query")
    (folder / "labels.csv").write_text(text)
    for file in ("rankings.txt", "other.txt"):
        with (folder / file).open("a") as more:
            more.write("a/2.jpg a/1.jpg a/3.jpg\n")
    sources = [evaluate(folder, "rankings.txt", "r.json"), evaluate(folder, "other.txt", "other.json")]
    results = [json.loads(source.read_text())["per_query"] for source in sources]
    own, other = ([entry["average_precision"] for entry in result] for result in results)
    assert [entry["query"] for entry in results[0]] == ["a/1.jpg", "a/2.jpg", "b/1.jpg"]
    shown = page(sources[0], "--compare", sources[1])
    groups = [(np.mean(found[:2]) + found[2]) / 2 for found in (own, other)]
    assert f"<td>mean over groups</td><td></td><td>{100 * groups[0]:.2f}</td><td>{100 * groups[1]:.2f}</td>" in shown
    assert (
        f"<td>mean over queries</td><td></td><td>{100 * np.mean(own):.2f}</td><td>{100 * np.mean(other):.2f}</td>"
        in shown
    )
    # Of three queries the bootstrap's ends are the least and the most of them: each alone is drawn in 1 of 27 samples.
    for found in (own, other):
        assert f"95 %: {100 * min(found):.2f} to {100 * max(found):.2f}" in shown
    gain = np.subtract(own, other)
    assert f"<b>{100 * gain.mean():+.2f}</b><span>r over other</span>" in shown
    assert f"95 %: {100 * gain.min():+.2f} to {100 * gain.max():+.2f}, within chance" in shown
    assert "setup" not in shown.split("<nav>")[0]
    alone = page(sources[0])
    assert "within chance" not in alone


def test_an_evaluation_of_other_queries_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluate(folder, "rankings.txt", "r.json")
    content = json.loads(result.read_text())
    content["per_query"] = content["per_query"][:1]
    (folder / "fewer.json").write_text(json.dumps(content))
    assert run("report", result, "-o", folder / "page", "--compare", folder / "fewer.json") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "other queries" in error
    assert not (folder / "page").exists()


def test_an_evaluation_of_another_protocol_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluate(folder, "rankings.txt", "r.json")
    content = json.loads(result.read_text()) | {"protocol": "holidays"}
    (folder / "else.json").write_text(json.dumps(content))
    assert run("report", result, "-o", folder / "page", "--compare", folder / "else.json") == 2
    assert "else.json: is of protocol holidays" in capsys.readouterr().err


def test_a_query_that_is_asked_twice_is_two_queries(folder: Path) -> None:
    result = evaluate(folder, "rankings.txt", "r.json")
    content = json.loads(result.read_text())
    content["per_query"].append(content["per_query"][0])
    result.write_text(json.dumps(content))
    text = page(result, "--compare", result)
    assert "<b>3 queries</b>" in text
    assert "<b>3</b><span>in which both are equal" in text


def test_a_teacher_beside_the_network_is_compared_without_being_asked_for(folder: Path) -> None:
    result = evaluate(folder, "rankings.txt", "r.json")
    other = json.loads(evaluate(folder, "other.txt", "other.json").read_text())
    content = json.loads(result.read_text())
    parts = ("groups", "per_query", "mean_over_queries", "mean_over_groups")
    content["setups"] = {
        "labels": {name: content.pop(name) for name in parts},
        "labels, teacher": {name: other[name] for name in parts},
    }
    content["figures"]["labels, teacher"] = other["figures"]["labels"]
    result.write_text(json.dumps(content))
    text = page(result)
    assert "teacher is ahead most" in section(text, "differ")
    assert "network is ahead most" in section(text, "differ")
    alone = page(result, "--setup", "labels, teacher")
    assert 'id="differ"' not in alone
    assert captions(section(alone, "best"))[0] == ("query", "b/1.jpg")


def test_junk_is_shown_and_takes_no_rank_and_a_box_is_drawn(tmp_path: Path) -> None:
    write_json(tmp_path, ORIGINAL | {"gnd": [entry | {"bbx": [10, 0, 40, 30]} for entry in GND]})
    for number, name in enumerate(IMLIST):
        write_photo(tmp_path / "jpg" / f"{name}.jpg", 20 * number)
    ok, junk = GND[0]["ok"], GND[0]["junk"]
    stranger = next(row for row in range(len(IMLIST)) if row not in {*ok, *junk})
    ranked = [IMLIST[row] for row in (junk[0], ok[0], stranger)]
    lines = [" ".join([name, *ranked]) for name in ORIGINAL["qimlist"]]
    (tmp_path / "rankings.txt").write_text("\n".join(lines))
    protocol = ("--protocol", "oxford5k", "--data", tmp_path, "--rankings", tmp_path / "rankings.txt")
    assert run("evaluate", *protocol, "-o", tmp_path / "r.json") == 0
    text = page(tmp_path / "r.json", "--num-queries", 50)
    name = read_evaluation(tmp_path / "r.json").setups["oxford5k"]["per_query"][0]["query"]
    card = next(part for part in text.split("<article")[1:] if captions(part)[0] == ("query", name))
    assert [said for said, _ in captions(card)[1:4]] == ["junk", "1: right", "2: wrong"]
    assert '<rect x="10.0" y="0.0" width="30.0" height="30.0"/>' in card
    assert 'viewBox="0 0 48 32"' in card
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the box is of the stored photo, and the page shows it turned
    with Image.open(tmp_path / name) as photo:
        photo.save(tmp_path / name, exif=exif)
    card = page(tmp_path / "r.json", "--num-queries", 50)
    assert '<svg class="box" viewBox="0 0 32 48"><rect x="2.0" y="10.0" width="30.0" height="30.0"/></svg>' in card


def test_of_several_setups_medium_is_shown_or_the_one_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path, REVISITED, "roxford5k")
    (tmp_path / "rankings.txt").write_text("\n".join(f"{query} {IMLIST[0]}" for query in REVISITED["qimlist"]))
    protocol = ("--protocol", "roxford5k", "--data", tmp_path, "--rankings", tmp_path / "rankings.txt")
    assert run("evaluate", *protocol, "-o", tmp_path / "r.json") == 0
    assert "setup <b>medium</b>" in page(tmp_path / "r.json")
    assert "setup <b>hard</b>" in page(tmp_path / "r.json", "--setup", "hard")
    capsys.readouterr()
    assert run("report", tmp_path / "r.json", "-o", tmp_path / "page", "--force", "--setup", "harder") == 2
    assert "has no setup harder; it has easy, medium, hard" in capsys.readouterr().err


def test_photos_that_moved_are_found_by_images_and_missing_ones_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluate(folder, "rankings.txt", "r.json")
    (folder / "photos").rename(folder / "moved")
    assert "photo cannot be read" in page(result)
    assert "photos that cannot be shown: 7, first b/1.jpg" in capsys.readouterr().err
    assert "photo cannot be read" not in page(result, "--images", folder / "moved")
    assert run("report", result, "-o", folder / "page", "--force", "--images", folder / "nowhere") == 1
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_distractors_in_a_folder_of_their_own_are_shown_too(tmp_path: Path) -> None:
    for name in ("photos/1.jpg", "more/2.jpg"):
        write_photo(tmp_path / name, 90)
    photos = PhotoFolders(tmp_path / "photos", None, tmp_path / "more").find()
    assert photos.path("1.jpg") == tmp_path / "photos/1.jpg"
    assert photos.path("2.jpg") == tmp_path / "more/2.jpg"
    assert photos.path("3.jpg") is None


def test_a_photo_of_the_same_name_in_another_folder_is_not_taken(tmp_path: Path) -> None:
    for name in ("deep/a/1.jpg", "b/2.jpg", "x/3.jpg", "y/3.jpg"):
        write_photo(tmp_path / name, 90)
    photos = PhotoFolders(tmp_path).find()
    assert photos.path("a/1.jpg") == tmp_path / "deep/a/1.jpg"
    assert photos.path("far/deep/a/1.jpg") == tmp_path / "deep/a/1.jpg"
    assert photos.path("a/2.jpg") is None
    assert photos.path("2") == tmp_path / "b/2.jpg"
    assert photos.path("y/3") == tmp_path / "y/3.jpg"
    assert photos.path("3.jpg") is None


def test_hostile_names_are_text_and_nothing_else(folder: Path) -> None:
    result = evaluate(folder, "rankings.txt", "r.json")
    content = json.loads(result.read_text())
    for entry in content["per_query"]:
        entry["group"] = HOSTILE
        entry["first"] = [HOSTILE] * len(entry["first"])
    content["notes"], content["settings"] = [HOSTILE], {HOSTILE: HOSTILE}
    other = folder / "o'<b>.json"
    other.write_text(json.dumps(content))
    result.write_text(json.dumps(content))
    text = page(result, "--compare", other)
    assert "<img src=x" not in text
    assert "o'<b>" not in text
    assert HOSTILE in html.unescape(text)


def spoilt(content: dict[str, Any], how: str) -> str:
    if how == "old":
        return json.dumps(content | {"version": 2})
    if how == "foreign":
        return json.dumps({"format": "else"})
    if how == "torn":
        return json.dumps(content)[:-20]
    if how == "uneven":
        content["per_query"][0]["verdicts"].append("right")
    if how == "no number":
        content["figures"] = {setup: {key: {} for key in f} for setup, f in content["figures"].items()}
    if how == "no texts":
        content["parents"] = [7]
    if how == "no path":
        content["photos"]["images"] = ["a"]
    if how == "half a letter":
        content["per_query"][0]["query"] = "\ud800"
    return json.dumps({name: value for name, value in content.items() if name != how})


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("old", "version 2, not 3; run evaluate again"),
        ("foreign", "is no evaluation"),
        ("torn", "is no JSON"),
        ("per_query", "lacks the results of its queries"),
        ("photos", "lacks the results of its queries"),
        ("figures", "lacks the results of its queries"),
        ("settings", "lacks the results of its queries"),
        ("uneven", "lacks the results of its queries"),
        ("no number", "lacks the results of its queries"),
        ("no texts", "lacks the results of its queries"),
        ("no path", "lacks the results of its queries"),
        ("half a letter", "is no JSON (it holds half a letter, U+D800)"),
    ],
)
def test_other_files_are_refused_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], how: str, said: str
) -> None:
    result = evaluate(folder, "rankings.txt", "r.json")
    result.write_text(spoilt(json.loads(result.read_text()), how))
    capsys.readouterr()
    assert run("report", result, "-o", folder / "page") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "r.json" in error
    assert said in error
    assert not (folder / "page").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("query", ["a"]), ("first", {"a": 1}), ("verdicts", ["perhaps"]), ("ranks", [-1]), ("ranks", ["1"]),
        ("average_precision", "high"), ("positives", True), ("nearest", []), ("last", [{"image": "a", "rank": 0.5}]),
        ("similarities", [[1]]), ("similarities", ["1"]), ("box", [1, 2, 3]), ("box", [1, 2, 3, "x"]),
    ],
)  # fmt: skip
def test_a_result_with_a_part_of_another_kind_is_refused(folder: Path, key: str, value: object) -> None:
    result = evaluate(folder, "rankings.txt", "r.json")
    content = json.loads(result.read_text())
    entry = content["per_query"][0]
    entry[key] = value * len(entry["first"]) if key in ("verdicts", "similarities") else value
    result.write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match="lacks the results of its queries"):
        read_evaluation(result)


def test_a_query_without_positives_is_left_out(folder: Path) -> None:
    rows = (folder / "labels.csv").read_text() + "d/1.jpg,d,query\n"
    (folder / "labels.csv").write_text(rows)
    with (folder / "rankings.txt").open("a") as file:
        file.write("d/1.jpg c/1.jpg\n")
    text = page(evaluate(folder, "rankings.txt", "r.json"))
    assert "<b>2 queries</b>" in text
    assert "1 query has no positive and is left out" in text


def test_points_lie_on_the_side_of_who_is_ahead() -> None:
    drawing = str(scatter([(0.2, 0.8, "up"), (0.8, 0.2, "down"), (0.5, 0.5, "same")], "a", "b<"))
    for name, css in (("up", "first"), ("down", "second"), ("same", "junk")):
        assert re.search(f'class="point {css}"[^>]*><title>{name}:', drawing)
    assert "b&lt;" in drawing
    height = {name: float(y) for y, name in re.findall(r'cy="([\d.]+)" r="4.5"><title>(\w+):', drawing)}
    assert height["up"] < height["same"] < height["down"]
    assert np.isclose(height["same"], (height["up"] + height["down"]) / 2)


def test_points_in_one_place_are_drawn_as_one_that_is_larger() -> None:
    many = [(0.0, 1.0, f"q{number}") for number in range(16)]
    drawing = str(scatter([*many, (4.0, 2.0, "alone")], "a", "b", top=4))
    radii = {title: float(r) for r, title in re.findall(r'r="([\d.]+)"><title>([^:]*):', drawing)}
    assert radii == {"16 queries, first q0, q1, q2": 18.0, "alone": 4.5}
    assert ">3</text>" in drawing
