"""`evaluate` on made folders: networks, descriptor files and rankings under one protocol, and what does not fit."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
from hand_made import run
from PIL import Image
from test_benchmarks import GND, IMLIST, ORIGINAL, REVISITED, write_json
from worlds import unit_rows

from cli.commands import evaluate as command
from retrieval.descriptors.extraction import ExtractionOptions, extract, extract_settings
from retrieval.evaluation.request import EvaluationRequest
from retrieval.local_features.bag_of_words import learn_bag_of_words, write_bag_of_words
from retrieval.local_features.options import VerificationOptions
from retrieval.local_features.vocabulary import WordOptions
from retrieval.localisation.options import LocalisationOptions
from retrieval.networks.choice import NetworkChoice
from retrieval.networks.network import build_network
from retrieval.photos.choices import CROPS
from retrieval.protocols.benchmark import ProtocolChoice
from retrieval.protocols.by_name import PROTOCOLS
from retrieval.search.options import Refinement, TeacherOptions
from retrieval.whitening.projection import Whitening, read_whitening, write_whitening
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors
from tests.textures import made_features

NETWORK = ["--backbone", "squeezenet1_1", "--image-size", "64"]


def write_photos(folder: Path, names: list[str], seed: int) -> None:
    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for name in names:
        small = Image.fromarray(draw.integers(0, 256, (6, 8, 3)).astype(np.uint8))
        small.resize((96, 88)).save(folder / f"{name}.jpg", quality=95)


@pytest.fixture(scope="module")
def oxford(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photos and their ground truth, original and revisited, distractors, and a descriptor file of all."""
    folder = tmp_path_factory.mktemp("oxford")
    write_json(folder, ORIGINAL | {"gnd": [entry | {"bbx": [10.5, 0, 60, 50.25]} for entry in GND]})
    write_json(folder, REVISITED | {"gnd": [e | {"bbx": [0, 0, 60, 60]} for e in REVISITED["gnd"]]}, "roxford5k")
    write_photos(folder / "jpg", [*IMLIST, "query_a", "query_b"], 0)
    write_photos(folder / "distractors", ["d1", "d2", "d3"], 1)
    assert run("extract", folder / "jpg", "-o", folder / "d.h5", *NETWORK) == 0
    return folder


def evaluate(folder: Path, *words: object, protocol: str = "oxford5k") -> dict:
    target = folder / "result.json"
    assert run("evaluate", "--protocol", protocol, "--data", folder, *words, "-o", target, "--force") == 0
    return json.loads(target.read_text())


def refusal(capsys: pytest.CaptureFixture[str], folder: Path, *words: object, protocol: str = "oxford5k") -> str:
    capsys.readouterr()
    assert run("evaluate", "--protocol", protocol, "--data", folder, *words) in (1, 2)
    said = capsys.readouterr().err
    # A line before it may say which weights a network has.
    [error] = [line for line in said.splitlines(keepends=True) if not line.startswith(("note: ", "WARNING: "))]
    assert "Traceback" not in error
    return error


def expected_map(queries: np.ndarray, database: np.ndarray) -> float:
    values = [
        oracles.average_precision_by_walking(oracles.ranking_by_sorting(q, database), e["ok"], e["junk"])
        for q, e in zip(queries, GND, strict=True)
    ]
    return float(np.mean(values))


def values_of(folder: Path, names: list[str]) -> np.ndarray:
    found = read_descriptors(folder / "d.h5")
    return found.values[[found.names.index(f"{name}.jpg") for name in names]]


def test_the_flags_offer_every_protocol_and_crop() -> None:
    choices = {parameter.name: getattr(parameter.type, "choices", None) for parameter in command.command.params}
    assert (list(choices["protocol"]), tuple(choices["crop"])) == (list(PROTOCOLS), CROPS)


def test_a_network_and_its_descriptor_file_give_the_same_figures_and_names(oxford: Path) -> None:
    described, read = evaluate(oxford, *NETWORK), evaluate(oxford, "--descriptors", oxford / "d.h5")
    database = values_of(oxford, IMLIST)
    expected = expected_map(database[[0, 2, 3]], database)
    for result in (described, read):
        assert result["figures"] == {"oxford5k": {"mAP": pytest.approx(expected, abs=1e-12)}}
        assert [entry["positives"] for entry in result["per_query"]] == [3, 2, 1]
        assert result["per_query"][2]["top"][0].endswith("oxford_000003.jpg")
        assert len(result["per_query"][0]["ranks"]) == 3
    assert described["per_query"][0]["query"] == "jpg/oxford_000000.jpg"
    assert read["per_query"][0]["query"] == "oxford_000000.jpg"
    assert read["settings"]["image_size"] == 64


@pytest.mark.parametrize("crop", ["image", "activations"])
def test_cropped_queries_are_described_by_the_network_beside_a_file(oxford: Path, crop: str) -> None:
    alone = evaluate(oxford, *NETWORK, "--crop", crop)
    beside = evaluate(oxford, *NETWORK, "--crop", crop, "--descriptors", oxford / "d.h5")
    plain = evaluate(oxford, *NETWORK)
    assert alone["figures"] == beside["figures"]
    assert alone["settings"]["crop"] == crop
    assert alone["per_query"] != plain["per_query"]


def test_crop_i_of_the_command_is_the_cut_photo(oxford: Path, tmp_path: Path) -> None:
    network, cut = build_network("squeezenet1_1", "gem"), []
    for row in (0, 2, 3):
        photo = Image.open(oxford / "jpg" / f"{IMLIST[row]}.jpg").convert("RGB")
        photo.crop((10, 0, 60, 50)).save(tmp_path / f"{row}.png")
        cut.append(extract(network, [tmp_path / f"{row}.png"], ExtractionOptions(round(64 * 50 / 96)))[0])
    found = evaluate(oxford, *NETWORK, "--crop", "image")["figures"]["oxford5k"]["mAP"]
    assert found == pytest.approx(expected_map(np.array(cut), values_of(oxford, IMLIST)), abs=1e-12)


def test_distractors_are_photos_or_descriptors_and_never_right(oxford: Path) -> None:
    assert run("extract", oxford / "distractors", "-o", oxford / "dd.h5", *NETWORK, "--force") == 0
    photos = evaluate(oxford, *NETWORK, "--distractors", oxford / "distractors")
    files = evaluate(oxford, "--descriptors", oxford / "d.h5", "--distractors", oxford / "dd.h5")
    database = values_of(oxford, IMLIST)
    more = np.concatenate([database, read_descriptors(oxford / "dd.h5").values])
    expected = expected_map(database[[0, 2, 3]], more)
    for result in (photos, files):
        assert result["figures"]["oxford5k"]["mAP"] == pytest.approx(expected, abs=1e-12)
    assert any("d1.jpg" in entry["top"] for entry in photos["per_query"])
    itself = evaluate(oxford, "--descriptors", oxford / "d.h5", "--distractors", oxford / "d.h5")
    assert itself["notes"] == []
    shutil.copy(oxford / "d.h5", oxford / "copy.h5")
    copied = evaluate(oxford, "--descriptors", oxford / "d.h5", "--distractors", oxford / "copy.h5")
    assert "10 distractors have the name" in " ".join(copied["notes"]) or "8 distractors" in " ".join(copied["notes"])
    assert copied["figures"] == itself["figures"]


def test_queries_database_and_distractors_are_whitened_alike(oxford: Path) -> None:
    network = build_network("squeezenet1_1", "gem")
    draw = np.random.default_rng(0)
    settings = extract_settings(network, ExtractionOptions(64))
    mean, projection = draw.normal(size=512) / 30, draw.normal(size=(512, 512))
    write_whitening(oxford / "w.h5", Whitening(mean, projection, "pca", 0.0, settings))
    assert run("extract", oxford / "distractors", "-o", oxford / "dw.h5", *NETWORK, "--force") == 0
    words = ["--descriptors", oxford / "d.h5", "--distractors", oxford / "dw.h5", "--whitening", oxford / "w.h5"]
    result = evaluate(oxford, *words, "--dim", 8)
    whitening = read_whitening(oxford / "w.h5")

    def whitened(values: np.ndarray) -> np.ndarray:
        rows = (values - whitening.mean) @ whitening.projection[:8].T
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    database = values_of(oxford, IMLIST)
    more = whitened(np.concatenate([database, read_descriptors(oxford / "dw.h5").values]))
    assert result["figures"]["oxford5k"]["mAP"] == pytest.approx(expected_map(more[[0, 2, 3]], more), abs=1e-9)
    assert (result["settings"]["dim"], len(result["parents"])) == (8, 3)


def test_revisited_setups_have_a_result_each(oxford: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluate(oxford, "--descriptors", oxford / "d.h5", protocol="roxford5k")
    assert list(result["setups"]) == ["easy", "medium", "hard"]
    assert [entry["query"] for entry in result["setups"]["hard"]["per_query"]] == ["query_a.jpg", "query_b.jpg"]
    assert set(result["figures"]["medium"]) == {"mAP", "mP@1", "mP@5", "mP@10"}
    said = capsys.readouterr().out
    assert "1 query has no positive and is left out of the means of easy" in said
    assert said.splitlines()[0].split() == ["setup", "queries", "mAP", "mP@1", "mP@5", "mP@10"]
    capsys.readouterr()
    words = ["--protocol", "roxford5k", "--data", oxford, "--descriptors", oxford / "d.h5", "--json"]
    assert run("evaluate", *words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert "per_query" not in printed["setups"]["easy"]


def test_queries_in_a_file_of_their_own_are_taken_from_it(oxford: Path, tmp_path: Path) -> None:
    found = read_descriptors(oxford / "d.h5")
    turned = Descriptors([f"{name}.jpg" for name in ORIGINAL["qimlist"]], values_of(oxford, IMLIST)[[5, 6, 7]])
    write_descriptors(tmp_path / "q.h5", turned)
    result = evaluate(oxford, "--descriptors", oxford / "d.h5", "--queries", tmp_path / "q.h5")
    database = values_of(oxford, IMLIST)
    assert len(found.names) == 10
    assert result["figures"]["oxford5k"]["mAP"] == pytest.approx(expected_map(database[[5, 6, 7]], database), abs=1e-12)


def test_files_of_other_settings_are_warned_of_or_refused(
    oxford: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("extract", oxford / "jpg", "-o", tmp_path / "q.h5", *NETWORK[:2], "--image-size", 80) == 0
    capsys.readouterr()
    evaluate(oxford, "--descriptors", oxford / "d.h5", "--queries", tmp_path / "q.h5")
    assert "queries made otherwise than the database's descriptors: image_size 80, not 64" in capsys.readouterr().err
    said = refusal(
        capsys, oxford, *NETWORK[:2], "--image-size", 80, "--crop", "image", "--descriptors", oxford / "d.h5"
    )
    assert "image_size 80, not 64" in said
    small = Descriptors(IMLIST, np.eye(8, dtype=np.float32))
    write_descriptors(tmp_path / "small.h5", small)
    said = refusal(capsys, oxford, "--descriptors", oxford / "d.h5", "--queries", tmp_path / "small.h5")
    assert "queries have 8 dimensions, the descriptors 512" in said
    write_descriptors(tmp_path / "few.h5", Descriptors(["other.jpg"], np.eye(1, 512, dtype=np.float32)))
    said = refusal(capsys, oxford, "--descriptors", oxford / "d.h5", "--queries", tmp_path / "few.h5")
    assert "few.h5: 3 of 3 photos of qimlist are absent" in said
    said = refusal(capsys, oxford, "--descriptors", oxford / "d.h5", "--distractors", oxford / "distractors")
    assert "backbone efficientnet_lite0, not squeezenet1_1" in said


def test_requests_that_contradict_themselves_are_one_line(
    oxford: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ["--descriptors", oxford / "d.h5"]
    assert "leave out --network" in refusal(capsys, oxford, *file, *NETWORK)
    said = refusal(capsys, oxford, *file, "--crop", "image")
    assert "backbone efficientnet_lite0, not squeezenet1_1" in said
    assert "name theirs by --network or --backbone" in said
    foreign = read_descriptors(oxford / "d.h5")
    write_descriptors(tmp_path / "foreign.h5", dataclasses.replace(foreign, settings={}))
    said = refusal(capsys, oxford, "--descriptors", tmp_path / "foreign.h5", "--crop", "image")
    assert "describes the queries anew: name the network of the descriptors" in said
    assert "--queries are descriptors beside" in refusal(capsys, oxford, "--queries", oxford / "d.h5")
    assert "answers already" in refusal(capsys, oxford, "--rankings", oxford, *file)
    assert "answers already" in refusal(capsys, oxford, "--rankings", oxford, *NETWORK)
    write_photos(tmp_path / "h", ["100000", "100001"], 2)
    said = refusal(capsys, tmp_path / "h", *NETWORK, "--crop", "image", protocol="holidays")
    assert "--crop image needs boxes" in said
    assert run("evaluate", "--protocol", "holidays") == 2
    assert "--protocol NAME and --data DIR go together" in capsys.readouterr().err


def test_an_incomplete_download_is_one_line(oxford: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path)
    write_photos(tmp_path / "jpg", IMLIST[2:], 0)
    said = refusal(capsys, tmp_path, *NETWORK)
    assert "2 of 8 photos of imlist are absent, first oxford_000000, oxford_000001" in said


def test_every_field_of_the_options_is_a_flag() -> None:
    flags = {parameter.name for parameter in command.command.params}
    parts = {
        "protocol": {*ProtocolChoice.__dataclass_fields__} - {"name"},
        "choice": {*NetworkChoice.__dataclass_fields__},
        "extraction": {*ExtractionOptions.__dataclass_fields__},
        "refinement": {*Refinement.__dataclass_fields__},
        "verification": {"features", "jobs", *VerificationOptions.__dataclass_fields__},
        "poses": {"scale", "pose_thresholds"},
        "localise": {"localise", *LocalisationOptions.__dataclass_fields__},
        "teaching": {*TeacherOptions.__dataclass_fields__} - {"verification"},
    }
    assert set(EvaluationRequest.__dataclass_fields__) - set(parts) <= flags
    assert set.union(*parts.values()) <= flags


def test_recall_is_printed_for_positions_in_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"@{x}.00@{y}.00@" for x, y in ((0, 0), (10, 0), (500, 0), (505, 0), (900, 900))]
    write_photos(tmp_path / "p", names, 3)
    assert run("evaluate", "--protocol", "place-recognition", "--data", tmp_path / "p", *NETWORK) == 0
    said = capsys.readouterr().out
    assert "recall@1" in said
    assert "recall@20 1.000000" in said
    assert "1 query has no positive" in said
    assert re.search(r"place-recognition, all queries +5 +0\.00 +80\.00", said), said


def test_one_name_in_two_descriptor_files_is_two_photos_unless_they_are_alike(tmp_path: Path, capsys) -> None:
    names = [f"@{x}.00@0.00@.jpg" for x in (0, 500, 1000)]
    rows = unit_rows(np.random.default_rng(0), 6, 8)
    rows[5] = rows[2]
    for file, values in (("d.h5", rows[:3]), ("q.h5", rows[3:])):
        write_descriptors(tmp_path / file, Descriptors(names, values, {}))
    files = ("--descriptors", tmp_path / "d.h5", "--queries", tmp_path / "q.h5")
    (tmp_path / "p").mkdir()
    assert run("evaluate", "--protocol", "place-recognition", "--data", tmp_path / "p", *files) == 0
    said = capsys.readouterr().out
    assert "1 query has no positive" in said
    assert "recall@20 1.000000" in said


def test_ground_truth_without_boxes_measures_whole_photos_and_refuses_crops(
    oxford: Path, tmp_path: Path, capsys
) -> None:
    write_json(
        tmp_path,
        REVISITED | {"gnd": [{k: v for k, v in e.items() if k != "bbx"} for e in REVISITED["gnd"]]},
        "roxford5k",
    )
    file = ("--descriptors", oxford / "d.h5")
    boxless = evaluate(tmp_path, *file, protocol="roxford5k")
    assert boxless["figures"] == evaluate(oxford, *file, protocol="roxford5k")["figures"]
    said = refusal(capsys, tmp_path, *file, "--crop", "image", protocol="roxford5k")
    assert "--crop image needs boxes" in said
    assert "roxford5k.json: some of its queries have no bbx" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "--dim", "9"), "dim 9 is not between 1 and the 4 dimensions"),
        (("evaluate",), "the whitening is for descriptors of 8 dimensions, these have 512"),
        (("extract", "--dim", "9"), "the whitening is for descriptors of 8 dimensions, these have 512"),
        (("extract", "--dim", "5"), "dim 5 is not between 1 and the 4 dimensions"),
    ],
)
def test_a_whitening_that_does_not_fit_is_refused_before_a_photo_is_described(oxford, tmp_path, capsys, words, said):
    command, *dim = words
    length = 512 if "dim" in said.split()[0] else 8
    write_whitening(tmp_path / "w.h5", Whitening(np.zeros(length), np.eye(4, length), "pca", 0.0, {}))
    (tmp_path / "none").mkdir()
    write_json(tmp_path / "none")
    (tmp_path / "none" / "jpg").mkdir()
    for name in [*IMLIST, "query_a", "query_b"]:
        (tmp_path / "none" / "jpg" / f"{name}.jpg").write_bytes(b"no photo: whoever describes it says so")
    where = [tmp_path / "none", "-o", tmp_path / "x.h5"]
    if command == "evaluate":
        where = ["--protocol", "oxford5k", "--data", tmp_path / "none"]
    assert run(command, *where, *NETWORK, "--whitening", tmp_path / "w.h5", *dim) == 2
    assert said in capsys.readouterr().err


def test_a_crop_is_refused_for_the_teacher_alone_where_there_are_no_boxes(tmp_path: Path, capsys) -> None:
    write_photos(tmp_path / "p", ["a", "b"], 0)
    bag = learn_bag_of_words(made_features(np.random.default_rng(0), (9, 7)), WordOptions(num_words=4))
    (tmp_path / "labels.csv").write_text("image,label,role\n" + "".join(f"{n},x,query\n" for n in bag.features.names))
    write_bag_of_words(tmp_path / "bow.h5", bag)
    words = ("--labels", tmp_path / "labels.csv", "--teacher", tmp_path / "bow.h5")
    assert run("evaluate", *words) == 0
    assert run("evaluate", *words, "--crop", "image") == 2
    assert "--crop image needs boxes: the queries of Oxford and Paris have some" in capsys.readouterr().err
