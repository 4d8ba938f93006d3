"""Re-ranking by windows: localisation against exhaustive sums, the order of short lists, and the road over photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from hand_made import run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from worlds import unit_rows

from retrieval.descriptors.extraction import ExtractionOptions, extract, extract_settings
from retrieval.networks.choice import NetworkChoice
from retrieval.networks.network import Network, build_network
from retrieval.photos.sources import photos_of
from retrieval.search.options import Expansion
from retrieval.search.ranks_file import read_ranks
from retrieval.search.window_descriptors import Describer, PhotoWindows, query_regions
from retrieval.search.window_search import integral_image, locate, mac_of, rerank
from retrieval.search.windows_of_files import WindowSources, window_finder
from retrieval.whitening.learning import learn_pca
from retrieval.whitening.projection import apply, read_whitening, write_whitening
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.files.descriptors import Descriptors, write_descriptors

MAPS = st.tuples(st.integers(0, 10**6), st.integers(1, 10), st.integers(1, 11), st.floats(0.3, 3.0))


def random_map(seed: int, height: int, width: int, channels: int = 4) -> np.ndarray:
    """Sparse like the output of a ReLU, some values below 0; the powers are exact, so that no sum is rounded."""
    drawn = np.random.default_rng(seed).choice([-1, 0, 0, 0.25, 0.5, 0.5, 1], (channels, height, width))
    drawn[0, 0, 0] = 1
    return drawn.astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(MAPS)
def test_sums_by_the_integral_image_are_direct_sums(world):
    seed, height, width, _ = world
    features = random_map(seed, height, width)
    sums = integral_image(features)
    largest = max(float(features.max()), np.finfo(np.float64).tiny)
    powers = (np.maximum(features, 0).astype(np.float64) / largest) ** 10
    for t, a, b, r in oracles.coarse_windows(height, width, 1.0, step=1, aspect=100.0):
        found = sums[b, r] - sums[t, r] - sums[b, a] + sums[t, a]
        np.testing.assert_allclose(found, powers[:, t:b, a:r].sum(axis=(1, 2)), atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(MAPS)
def test_the_window_found_is_that_of_looking_at_all_and_moving_its_sides(world):
    seed, height, width, ratio = world
    features = random_map(seed, height, width)
    query = mac_of(random_map(seed + 1, 3, 3))
    window = locate(integral_image(features), query, ratio)
    wanted = oracles.localised_window(features, query, ratio)
    found = oracles.window_similarity(features, query, window)
    assert found == pytest.approx(oracles.window_similarity(features, query, wanted), abs=1e-9)


def test_a_planted_pattern_is_found_where_it_is():
    features = np.full((6, 20, 30), 0.01, np.float32)
    pattern = np.abs(np.random.default_rng(0).standard_normal((6, 5, 7))).astype(np.float32) + 0.2
    features[:, 8:13, 14:21] = pattern
    features[0, :7, :] = 9.0  # something else, stronger
    window = locate(integral_image(features), mac_of(pattern), 7 / 5)
    top, left, bottom, right = window.tolist()
    assert top >= 7
    np.testing.assert_allclose(features[:, top:bottom, left:right].max(axis=(1, 2)), pattern.max(axis=(1, 2)))


def test_windows_of_another_shape_than_the_querys_are_not_looked_at_first():
    windows = oracles.coarse_windows(12, 12, 1.0)
    assert windows
    assert all((r - a) == (b - t) for t, a, b, r in windows)


def test_an_empty_map_has_a_window_and_no_direction():
    nothing = np.zeros((3, 4, 5), np.float32)
    assert locate(integral_image(nothing), mac_of(nothing), 1.0).tolist() == [0, 0, 3, 3]
    assert mac_of(nothing).tolist() == [0, 0, 0]


def test_short_lists_are_ordered_by_their_windows_and_the_rest_stays():
    rng = np.random.default_rng(0)
    queries, windows = unit_rows(rng, 2, 5), unit_rows(rng, 6, 5).reshape(2, 3, 5)
    row = np.array([[4, 9, 2, 7], [3, -1, -1, -1]])
    similarity = np.array([[0.9, 0.8, 0.7, 0.6], [0.5, -np.inf, -np.inf, -np.inf]])
    found, scores = rerank(row, similarity, queries, windows, None)
    score = {r: float(queries[0] @ windows[0, i]) for i, r in enumerate([4, 9, 2])}
    assert found[0].tolist() == [*sorted(score, key=lambda r: -score[r]), 7]
    np.testing.assert_allclose(scores[0], [*sorted(score.values(), reverse=True), 0.6], atol=1e-6)
    assert found[1].tolist() == [3, -1, -1, -1]
    assert scores[1, 1:].tolist() == [-np.inf] * 3


def test_equally_good_windows_are_ordered_by_row():
    same = np.ones((1, 3, 1), np.float32)
    row, _ = rerank(np.array([[5, 1, 3]]), np.zeros((1, 3)), np.ones((1, 1), np.float32), same, None)
    assert row.tolist() == [[1, 3, 5]]


@pytest.mark.parametrize("expansion", [Expansion(2), Expansion(3, 3.0)])
def test_expansion_after_re_ranking_averages_the_best_windows_and_scores_all_again(expansion):
    rng = np.random.default_rng(1)
    queries, windows = unit_rows(rng, 1, 6), unit_rows(rng, 5, 6)[None]
    row = np.array([[8, 3, 5, 1, 9]])
    found, scores = rerank(row, np.zeros((1, 5)), queries, windows, expansion)
    first = sorted(((float(queries[0].astype(float) @ w), i) for i, w in enumerate(windows[0])), key=lambda e: -e[0])
    best = [(windows[0, i], s) for s, i in first[: expansion.num_images]]
    query = np.array(oracles.expanded_query(queries[0], best, expansion.alpha))
    again = sorted(((float(query @ w), int(row[0, i])) for i, w in enumerate(windows[0])), key=lambda e: -e[0])
    assert found[0].tolist() == [r for _, r in again]
    np.testing.assert_allclose(scores[0], [s for s, _ in again], atol=1e-6)


# --- over photos ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven photos of noise of several shapes; b.jpg is a copy of a.jpg."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(
        [(120, 160), (120, 160), (150, 100), (90, 200), (128, 128), (100, 180), (160, 120)]
    ):
        coarse = rng.integers(0, 256, (max(1, height // 20), max(1, width // 20), 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((width, height)).save(folder / f"{'abcdefg'[number]}.jpg", quality=95)
    (folder / "b.jpg").write_bytes((folder / "a.jpg").read_bytes())
    return folder


@pytest.fixture(scope="module", params=["gem", "rmac"])
def network(request: pytest.FixtureRequest) -> Network:
    return build_network("squeezenet1_1", request.param)


def maps_of(network: Network, photo: Path, size: int) -> torch.Tensor:
    from retrieval.descriptors.extraction import to_input
    from retrieval.photos.decoding import load_photo

    with torch.inference_mode():
        return network.feature_map(to_input([load_photo(photo, size)], network.device))


def test_a_short_lists_windows_are_described_as_the_network_describes_that_part_of_the_map(folder, network):
    describer = Describer(network, ExtractionOptions(160))
    photos = photos_of(folder)
    regions = query_regions(describer, photos.only(["c.jpg", "f.jpg"]))
    row = np.array([[3, 0, 6], [1, 3, -1]])
    found = PhotoWindows(describer, regions, photos, photos.keys, None).find(row)
    for q in range(2):
        for j in range(3):
            if row[q, j] < 0:
                assert not found[q, j].any()
                continue
            features = maps_of(network, folder / photos.keys[row[q, j]], 160)
            window = locate(integral_image(features[0].numpy()), regions.mac[q], regions.ratio[q])
            top, left, bottom, right = window.tolist()
            with torch.inference_mode():
                wanted = network.describe_map(features[:, :, top:bottom, left:right])[0].numpy()
            np.testing.assert_allclose(found[q, j], wanted, atol=1e-6)


def test_each_photo_goes_through_the_network_once_whoever_asks_and_whatever_its_name(folder, monkeypatch):
    network = build_network("squeezenet1_1", "mac")
    describer = Describer(network, ExtractionOptions(160))
    photos = photos_of(folder)
    same = np.arange(len(photos.keys))
    same[1] = 0  # b.jpg has the content of a.jpg
    photos = type(photos)(photos.keys, photos.sources, same, photos.origin)
    regions = query_regions(describer, photos.only(["c.jpg", "d.jpg", "e.jpg"]))
    calls = []
    whole = network.feature_map
    monkeypatch.setattr(network, "feature_map", lambda x: (calls.append(1), whole(x))[1])
    found = PhotoWindows(describer, regions, photos, photos.keys, None).find(np.array([[0, 1], [1, 4], [4, 0]]))
    assert len(calls) == 2
    np.testing.assert_array_equal(found[0, 0], found[0, 1])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_whole_photo_at_several_scales_is_described_as_extract_describes_it(folder, precision):
    network = build_network("squeezenet1_1", "gem")
    options = ExtractionOptions(160, (1.0, 0.7071, 0.5), precision=precision)
    describer = Describer(network, options)
    photos = photos_of(folder)
    with torch.inference_mode():
        for name, maps in zip(photos.keys, describer.maps(photos.sources, photos.keys), strict=True):
            height, width = maps[0].shape[2:]
            found = describer.describe(maps, np.array([[0, 0, height, width]] * 2))
            np.testing.assert_allclose(found, np.repeat(extract(network, [folder / name], options), 2, 0), atol=1e-5)


def test_a_window_at_another_scale_covers_the_same_part_of_the_photo():
    network = build_network("squeezenet1_1", "mac")
    describer = Describer(network, ExtractionOptions(64, (0.5, 1.0)))
    rng = np.random.default_rng(0)
    small, large = (torch.from_numpy(rng.random((1, 512, *shape), np.float32)) for shape in ((4, 6), (8, 12)))
    found = describer.describe([small, large], np.array([[2, 3, 6, 9]]))
    parts = [network.describe_map(m) for m in (small[:, :, 1:3, 1:5], large[:, :, 2:6, 3:9])]
    wanted = torch.stack(parts).mean(dim=0)
    np.testing.assert_allclose(found, torch.nn.functional.normalize(wanted, dim=-1).detach().numpy(), atol=1e-6)


def test_the_windows_are_whitened_as_the_descriptors_are(folder):
    network = build_network("squeezenet1_1", "gem")
    plain = Describer(network, ExtractionOptions(160))
    photos = photos_of(folder)
    whitening = learn_pca(extract(network, photos.sources, plain.options), shrinkage=0.5)
    whitened = Describer(network, plain.options, whitening, 16)
    regions = query_regions(plain, photos.only(["a.jpg"]))
    row = np.array([[2, 3, 4]])
    found = [PhotoWindows(d, regions, photos, photos.keys, None).find(row)[0] for d in (plain, whitened)]
    np.testing.assert_allclose(found[1], apply(whitening, found[0], 16), atol=1e-6)


def test_cropped_queries_look_for_their_box(folder):
    describer = Describer(build_network("squeezenet1_1", "gem"), ExtractionOptions(160))
    photos = photos_of(folder).only(["d.jpg"])
    box = np.array([[0.0, 0.0, 90.0, 90.0]])
    whole, cut = query_regions(describer, photos), query_regions(describer, photos, box, "image")
    assert whole.ratio[0] > 2
    assert cut.ratio[0] == pytest.approx(1.0)
    inside = query_regions(describer, photos, box, "activations")
    assert inside.ratio[0] < 1.4
    assert not np.allclose(inside.mac, whole.mac)


def test_neural_codes_and_too_many_windows_are_refused(folder, monkeypatch):
    with pytest.raises(UsageError, match="neural codes"):
        Describer(build_network("alexnet", "fc6"), ExtractionOptions(160))
    describer = Describer(build_network("squeezenet1_1", "gem"), ExtractionOptions(160))
    photos = photos_of(folder)
    regions = query_regions(describer, photos.only(["a.jpg"]))
    monkeypatch.setattr("retrieval.search.window_descriptors.MOST_BYTES", 1000)
    with pytest.raises(UsageError, match="re-rank fewer"):
        PhotoWindows(describer, regions, photos, photos.keys, None).find(np.array([[0, 1]]))


def test_a_photo_that_is_not_there_is_named(folder):
    describer = Describer(build_network("squeezenet1_1", "gem"), ExtractionOptions(160))
    photos = photos_of(folder)
    regions = query_regions(describer, photos.only(["a.jpg"]))
    with pytest.raises(DataError, match="first x/h"):
        PhotoWindows(describer, regions, photos, [*photos.keys, "x/h.jpg"], None).find(np.array([[7]]))


def test_the_command_re_ranks_with_the_settings_of_the_files(folder, tmp_path, capsys):
    network = ("--backbone", "squeezenet1_1", "--pooling", "mac")
    assert run("extract", folder, "-o", tmp_path / "plain.h5", *network, "--image-size", 160) == 0
    built = build_network("squeezenet1_1", "mac")
    options = ExtractionOptions(160)
    values = extract(built, photos_of(folder).sources, options)
    from dataclasses import replace

    learned = replace(learn_pca(values, 0.3), settings=extract_settings(built, options))
    write_whitening(tmp_path / "w.h5", learned)
    whitened = ("--whitening", tmp_path / "w.h5")
    extracted = ("--image-size", 160, *whitened, "--dim", 8)
    assert run("extract", folder, "-o", tmp_path / "d.h5", *network, *extracted) == 0
    words = ("search", "--queries", tmp_path / "d.h5", "--database", tmp_path / "d.h5", "--photos", folder)
    assert run(*words, "-o", tmp_path / "r.h5", "--rerank", "R:4", "--qe", "average:2", *network, *whitened) == 0
    ranks = read_ranks(tmp_path / "r.h5")
    assert ranks.options["rerank"] == "R:4"
    describer = Describer(built, options, read_whitening(tmp_path / "w.h5"), 8)
    photos = photos_of(folder)
    database = apply(learned, values, 8)
    short = np.array(
        [[r for r, _ in oracles.most_similar_by_sorting(v, database, i, 6)] for i, v in enumerate(database)]
    )
    windows = PhotoWindows(describer, query_regions(describer, photos), photos, photos.keys, None).find(short[:, :4])
    wanted, _ = rerank(short, np.zeros(short.shape), database, windows, Expansion(2))
    np.testing.assert_array_equal(ranks.row[:, :6], wanted)
    capsys.readouterr()
    plain = ("search", "--queries", tmp_path / "plain.h5", "--database", tmp_path / "plain.h5", "--photos", folder)
    for given_, said in (
        ((*words, *network), "give its --whitening"),
        ((*words, "--backbone", "squeezenet1_1", *whitened), "another network"),
        ((*plain, *network, *whitened), "has none"),
        ((*plain,), "another network than the default one"),
    ):
        assert run(*given_, "-o", tmp_path / "x.h5", "--rerank", "R:4") == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(("said", "used"), [({"precision": "bf16"}, "bf16"), ({}, "fp32")])
def test_windows_are_described_in_the_precision_of_the_files_and_older_files_are_fp32(folder, said, used):
    settings = extract_settings(build_network("squeezenet1_1", "mac"), ExtractionOptions(160)) | said
    settings = {key: value for key, value in settings.items() if key != "precision" or said}
    photos = photos_of(folder)
    files = Descriptors(photos.keys, unit_rows(np.random.default_rng(0), len(photos.keys), 512), settings)
    sources = WindowSources(NetworkChoice(backbone="squeezenet1_1", pooling="mac"), folder)
    assert window_finder(files, files, sources)._describer.options.precision == used


def test_files_that_do_not_say_what_made_them_are_not_re_ranked(folder, tmp_path, capsys):
    values = unit_rows(np.random.default_rng(0), 7, 512)
    write_descriptors(tmp_path / "d.h5", Descriptors(photos_of(folder).keys, values))
    words = (
        "--queries",
        tmp_path / "d.h5",
        "--database",
        tmp_path / "d.h5",
        "--photos",
        folder,
        "--backbone",
        "alexnet",
    )
    assert run("search", *words, "-o", tmp_path / "r.h5", "--rerank", "R") == 2
    assert "made by extract" in capsys.readouterr().err
