"""What a query is worth on a page: N-S for UKBench, the first right image for place recognition."""

from __future__ import annotations

from pathlib import Path

import pytest
from hand_made import run
from test_evaluation_page import captions, page, section, write_photo

from retrieval.reports.query_scores import query_score

FOUND = {"average_precision": 0.25, "ranks": [2, 3, 9]}
NOTHING = {"average_precision": 0.0, "ranks": []}


@pytest.mark.parametrize(
    ("figure", "found", "nothing", "mean"),
    [
        ("mAP", (0.25, "0.250"), (0.0, "0.000"), "12.50"),
        ("N-S", (2.0, "2 of 4"), (0.0, "0 of 4"), "1.000"),
        ("recall@1", (1 / 3, "3"), (0.0, "never found"), "0.00"),
        ("recall@5", (1 / 3, "3"), (0.0, "never found"), "50.00"),
    ],
)
def test_a_query_is_worth_what_its_figure_says(
    figure: str, found: tuple[float, str], nothing: tuple[float, str], mean: str
) -> None:
    score = query_score(figure)
    for entry, (value, text) in ((FOUND, found), (NOTHING, nothing)):
        assert score.of(entry) == pytest.approx(value)
        assert score.text(entry) == text
    assert score.mean_text([FOUND, NOTHING]) == mean


def queries_of(text: str, name: str) -> list[str]:
    return [key for said, key in captions(section(text, name)) if said == "query"]


def test_objects_are_put_in_order_by_how_many_of_the_first_four_are_right(tmp_path: Path) -> None:
    names = [f"ukbench{number:05d}.jpg" for number in range(8)]
    for number, name in enumerate(names):
        write_photo(tmp_path / "photos" / name, 20 * number)
    # The first finds all four. The second finds itself, and three others behind the first four, which gives a higher
    # average precision than the third and the fourth have with two among the first four.
    lines = [
        " ".join(names[:4]),
        " ".join([names[1], *names[4:], names[0], names[2], names[3]]),
        " ".join([names[2], *names[4:6], names[0]]),
    ]
    lines += [f"{name} {names[0]}" for name in names[3:]]
    # A line begins with its query.
    (tmp_path / "rankings.txt").write_text("".join(f"{line.split()[0]} {line}\n" for line in lines))
    data = ("--protocol", "ukbench", "--data", tmp_path / "photos", "--rankings", tmp_path / "rankings.txt")
    assert run("evaluate", *data, "-o", tmp_path / "r.json") == 0
    text = page(tmp_path / "r.json", "--num-queries", 4)
    assert queries_of(text, "best") == [names[0], names[3], names[2], names[1]]
    assert "right images among the first 4 <b>4 of 4</b>" in section(text, "best")
    assert "N-S, network, over queries" in text


def test_places_are_put_in_order_by_the_rank_of_the_first_right_photo(tmp_path: Path) -> None:
    database = [f"@{east}@0@.jpg" for east in (0, 5, 1000, 2000, 3000)]
    queries = {"@1@0@.jpg": [3, 0, 1], "@1001@0@.jpg": [0, 1, 3, 2], "@2001@0@.jpg": [0]}
    for folder, names in (("database", database), ("queries", list(queries))):
        for name in names:
            write_photo(tmp_path / "photos" / folder / name, 90)
    lines = [
        " ".join([f"queries/{query}", *(f"database/{database[row]}" for row in rows)])
        for query, rows in queries.items()
    ]
    (tmp_path / "rankings.txt").write_text("\n".join(lines))
    data = ("--protocol", "place-recognition", "--data", tmp_path / "photos", "--rankings", tmp_path / "rankings.txt")
    assert run("evaluate", *data, "-o", tmp_path / "r.json") == 0
    text = page(tmp_path / "r.json", "--num-queries", 2)
    assert queries_of(text, "worst") == ["queries/@2001@0@.jpg", "queries/@1001@0@.jpg"]
    assert queries_of(text, "best") == ["queries/@1@0@.jpg"]
    assert "rank of the first right image <b>never found</b>" in section(text, "worst")
    assert "rank of the first right image <b>4</b>" in section(text, "worst")
    assert "<b>0.00</b>" in text
    assert "recall@1, network, over queries" in text
