"""The co-visibility graph for other programs: hloc's pairs and GraphML, against plain loops."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import networkx
import numpy as np
import pytest
from hand_made import run
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import Index, random_index, write_whole

from sfm2tuples.errors import UsageError
from sfm2tuples.interop.graph_export import edges_between, write_graphml, write_neighbours


def named(index: Index, **columns: list[str]) -> Index:
    """The index with other names or keys."""
    return dataclasses.replace(index, images=dataclasses.replace(index.images, **columns))


def seen_points(index: Index, row: int) -> set[int]:
    start, end = index.observations.indptr[row : row + 2]
    return set(index.observations.point[start:end].tolist())


def pairs_by_a_loop(index: Index, num_matched: int) -> list[str]:
    """From the definition: for each image all others that see one of its points, most shared points first."""
    lines = []
    points = [seen_points(index, row) for row in range(len(index.images.name))]
    for row, name in enumerate(index.images.name):
        shared = [(-len(points[row] & points[other]), other) for other in range(len(points)) if other != row]
        lines += [f"{name} {index.images.name[other]}" for count, other in sorted(shared)[:num_matched] if count < 0]
    return lines


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), num_matched=st.integers(1, 12))
def test_pairs_are_the_neighbours_with_most_shared_points(
    tmp_path_factory: pytest.TempPathFactory, seed: int, num_matched: int
) -> None:
    index = random_index(np.random.default_rng(seed), (7, 9), (0, 1))
    path = tmp_path_factory.mktemp("pairs") / "pairs.txt"
    count = write_neighbours(index.opened(), path, num_matched)
    lines = path.read_text().splitlines()
    assert lines == pairs_by_a_loop(index, num_matched)
    assert count == len(lines)
    assert all(len(line.split(" ")) == 2 for line in lines)


@pytest.fixture
def index() -> Index:
    return random_index(np.random.default_rng(1), (8, 8, 8), (0, 1, 2), val=1)


def test_names_that_two_photos_have_are_refused_and_keys_are_not(index: Index, tmp_path: Path) -> None:
    bare = named(index, name=[f"{row % 8}.jpg" for row in range(24)])
    with pytest.raises(UsageError, match=r"0\.jpg is the name of two photos, .* give --names key"):
        write_neighbours(bare.opened(), tmp_path / "pairs.txt")
    assert not (tmp_path / "pairs.txt").exists()
    write_neighbours(bare.opened(), tmp_path / "pairs.txt", names="key")
    found = {name for line in (tmp_path / "pairs.txt").read_text().splitlines() for name in line.split()}
    assert found <= set(index.images.key)
    assert len(found) > 8


def test_a_photo_in_two_models_is_one_image_whose_better_edge_counts(index: Index, tmp_path: Path) -> None:
    """The second model has the photos of the first: neighbours of both rows, each once, by the larger count."""
    twice = [f"{row % 8}.jpg" if row < 16 else f"{row}.jpg" for row in range(24)]
    both = named(index, name=twice, key=twice)
    best: dict[str, dict[str, int]] = {}
    graph = index.covisibility
    for row in range(24):
        for edge in range(graph.indptr[row], graph.indptr[row + 1]):
            other = twice[graph.neighbour[edge]]
            known = best.setdefault(twice[row], {})
            known[other] = max(known.get(other, 0), int(graph.shared[edge]))
    order = list(dict.fromkeys(twice))
    expected = [
        f"{name} {other}"
        for name in order
        for other in sorted(best.get(name, {}), key=lambda o: (-best[name][o], order.index(o)))[:5]
    ]
    write_neighbours(both.opened(), tmp_path / "pairs.txt", 5)
    assert (tmp_path / "pairs.txt").read_text().splitlines() == expected


@pytest.mark.parametrize("name", ["a b.jpg", "a\tb.jpg", "a\nb.jpg", ""])
def test_a_name_that_a_list_of_pairs_cannot_hold_is_refused(index: Index, tmp_path: Path, name: str) -> None:
    odd = named(index, name=[name, *index.images.name[1:]])
    with pytest.raises(UsageError, match="1 name holds spaces") as error:
        write_neighbours(odd.opened(), tmp_path / "pairs.txt")
    assert "\n" not in str(error.value)


def test_values_without_meaning_are_refused(index: Index, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="num_matched must be at least 1"):
        write_neighbours(index.opened(), tmp_path / "pairs.txt", 0)
    with pytest.raises(UsageError, match="one of model, key"):
        write_neighbours(index.opened(), tmp_path / "pairs.txt", names="id")


def test_graphml_holds_every_photo_and_every_edge_with_its_evidence(index: Index, tmp_path: Path) -> None:
    nodes, edges = write_graphml(index.opened(), tmp_path / "graph.graphml")
    graph = networkx.read_graphml(tmp_path / "graph.graphml")
    assert (graph.number_of_nodes(), graph.number_of_edges()) == (nodes, edges)
    assert list(graph) == index.images.key
    assert edges == len(index.covisibility.neighbour) // 2
    for row, key in enumerate(index.images.key):
        place = int(index.image_place[row])
        expected = {"name": index.images.name[row], "place": f"place{place}", "split": "val" if place == 2 else "train"}
        assert graph.nodes[key] == expected
        covisibility = index.covisibility
        for edge in range(covisibility.indptr[row], covisibility.indptr[row + 1]):
            found = graph.edges[key, index.images.key[covisibility.neighbour[edge]]]
            assert found["shared"] == covisibility.shared[edge]
            assert found["angle"] == pytest.approx(float(covisibility.angle[edge]))
            known = not np.isnan(covisibility.scale_change[edge])
            assert ("scale_change" in found) == known
            if known:
                assert found["scale_change"] == pytest.approx(float(covisibility.scale_change[edge]))


def test_graphml_says_the_side_of_an_image_where_its_place_is_split_inside(tmp_path: Path) -> None:
    from worlds import with_inside

    rng = np.random.default_rng(3)
    index = with_inside(rng, random_index(rng, (14, 12), (0, 0)), 4)
    write_graphml(index.opened(), tmp_path / "graph.graphml")
    graph = networkx.read_graphml(tmp_path / "graph.graphml")
    found = [graph.nodes[key]["split"] for key in index.images.key]
    assert found == [("train", "val", "left out")[split] for split in index.inside.split]
    assert len(set(found)) == 3


def test_graphml_of_some_places_and_strong_edges(index: Index, tmp_path: Path) -> None:
    write_graphml(index.opened(), tmp_path / "graph.graphml", ["place0", "place2"], min_shared=6)
    graph = networkx.read_graphml(tmp_path / "graph.graphml")
    assert {data["place"] for _, data in graph.nodes(data=True)} == {"place0", "place2"}
    assert graph.number_of_nodes() == 16
    assert min(data["shared"] for *_, data in graph.edges(data=True)) >= 6
    with pytest.raises(UsageError, match="no place atlantis"):
        write_graphml(index.opened(), tmp_path / "other.graphml", ["atlantis"])


def test_a_huge_graph_is_refused_gently(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfm2tuples.interop.graph_export.MOST_EDGES", 20)
    with pytest.raises(UsageError, match=r"more than graph tools open \(20\); choose with --place NAME"):
        write_graphml(index.opened(), tmp_path / "graph.graphml")
    write_graphml(index.opened(), tmp_path / "graph.graphml", min_shared=9)


def test_names_that_xml_cannot_hold_are_escaped(index: Index, tmp_path: Path) -> None:
    odd = named(index, key=["a\x01<b>&\x1b.jpg", *index.images.key[1:]])
    write_graphml(odd.opened(), tmp_path / "graph.graphml")
    assert next(iter(networkx.read_graphml(tmp_path / "graph.graphml"))) == r"a\x01<b>&\x1b.jpg"


def test_the_edges_are_symmetric(index: Index) -> None:
    edges = edges_between(index.opened(), index.images.key)
    pairs = set(zip(edges.query.tolist(), edges.other.tolist(), strict=True))
    assert len(pairs) == len(edges.query)
    assert pairs == {(other, query) for query, other in pairs}


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_writes_both_and_says_what_is_next(
    index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_whole(tmp_path / "index.h5", index, {})
    assert run("export", "--format", "pairs", "--num-matched", 3, tmp_path / "index.h5", "-o", tmp_path / "p.txt") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("next: ")
    assert (tmp_path / "p.txt").read_text().splitlines() == pairs_by_a_loop(index, 3)
    words = ["export", "--format", "graphml", tmp_path / "index.h5", "-o", tmp_path / "g.graphml"]
    assert run(*words, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["nodes"], values["edges"]) == (24, len(index.covisibility.neighbour) // 2)
    before = (tmp_path / "g.graphml").read_bytes()
    assert run(*words) == 2
    assert run(*words, "--force") == 0
    assert (tmp_path / "g.graphml").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["pairs", "--image-size", "100"],
        ["pairs", "--place", "place0"],
        ["graphml", "--num-matched", "3"],
        ["graphml", "--names", "key"],
        ["cirtorch", "--min-shared", "3"],
    ],
)
def test_a_flag_of_another_format_is_refused(
    index: Index, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_whole(tmp_path / "index.h5", index, {})
    assert run("export", "--format", *words, tmp_path / "index.h5", "-o", tmp_path / "x") == 2
    assert f"{words[1]} means nothing for --format {words[0]}" in capsys.readouterr().err


def test_a_checkpoint_or_a_descriptor_file_is_no_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, name in (("pairs", "best.pt"), ("graphml", "best.pt"), ("cirtorch", "notes.txt")):
        (tmp_path / name).write_bytes(b"PK\x03\x04 weights")
        assert run("export", "--format", kind, tmp_path / name, "-o", tmp_path / "x") == 1
        error = capsys.readouterr().err
        assert f"{name}: is neither an index nor a tuple file; --format {kind} takes" in error
        assert error.count("\n") == 1


def test_graphml_leaves_out_what_is_not_known(index: Index, tmp_path: Path) -> None:
    unknown = np.full_like(index.covisibility.angle, np.nan)
    odd = dataclasses.replace(index, covisibility=dataclasses.replace(index.covisibility, angle=unknown))
    _, edges = write_graphml(odd.opened(), tmp_path / "graph.graphml")
    found = [data for *_, data in networkx.read_graphml(tmp_path / "graph.graphml").edges(data=True)]
    assert len(found) == edges > 0
    assert not any("angle" in data for data in found)
    assert "nan" not in (tmp_path / "graph.graphml").read_text().lower()
