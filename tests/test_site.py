"""`tune` and `ask`: the whole road in one call, gone on with after a kill, made again where something has changed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from hand_made import run
from PIL import Image
from worlds import unit_rows

import sfm2tuples
from retrieval.descriptors.extraction import ExtractionOptions, extract
from retrieval.evaluation.intervals import mean_interval, resamples
from retrieval.networks.choice import NetworkChoice, load_network
from retrieval.networks.interpolation import between
from retrieval.networks.network import build_network
from retrieval.networks.numpy_forward import read_layers
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.site import choices, reconstruct, site_files, steps, tuning, verification
from retrieval.site import database as site_database
from retrieval.site.choices import Effort, can_train, choose_options
from retrieval.site.comparison import BEST_ELSEWHERE, SAFEST, Comparison, compare, read_comparison, write_comparison
from retrieval.site.effort import Pace, effort_within, forecast, seconds_of
from retrieval.site.facts import Facts
from retrieval.site.photo_list import PhotoList, write_photo_list
from retrieval.site.questions import Answer, Answers, Site, reranked
from retrieval.site.reconstruct import names_of_models
from retrieval.site.request import TuneRequest
from retrieval.site.site_files import SiteFiles, held_site
from retrieval.site.state import SiteState, Workshop
from retrieval.site.tuning import Tuned, tune_site
from retrieval.site.verification import verified
from sfm2tuples.compute.progress_bars import duration
from sfm2tuples.errors import DataError, FileFormatError, PhotoError, ReconstructionError, SfmTuplesError, UsageError
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import read_descriptors
from sfm2tuples.mining.tuple_file import read_tuples
from sfm2tuples.world.synthetic import write_world

pytestmark = pytest.mark.timeout(300)
BACKBONE = "alexnet"
"""Its descriptors have few dimensions, so that whitenings are quick to learn."""


def make_short(patch: pytest.MonkeyPatch) -> None:
    """Two rounds of three tuples a place."""
    patch.setattr(choices, "FROM_RANDOM", {"learning_rate": 1e-4, "rounds": 2})
    patch.setattr(choices, "PER_PLACE", 3)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    make_short(monkeypatch)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "world"
    write_world(folder, places=4, photos_per_place=6, size=(96, 72), jobs=1)
    return folder


def request_of(world: Path, site: Path, **more: Any) -> TuneRequest:
    return TuneRequest((world,), site, NetworkChoice(backbone=BACKBONE), device="cpu", **more)


def tuned(world: Path, site: Path, **more: Any) -> tuple[Tuned, list[str]]:
    said: list[str] = []
    return tune_site(request_of(world, site, **more), said.append), said


@pytest.fixture(scope="module")
def site(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole site; tests that change one take a copy."""
    folder = tmp_path_factory.mktemp("whole") / "site"
    with pytest.MonkeyPatch.context() as patch:
        make_short(patch)
        tuned(world, folder)
    return folder


@pytest.fixture
def copy(site: Path, tmp_path: Path) -> Path:
    shutil.copytree(site, tmp_path / "site", copy_function=shutil.copy2)
    return tmp_path / "site"


def content_of(site: Path) -> dict[str, str]:
    """What a site's files hold: fingerprints, and of tables their text; times of steps differ."""
    found = {path.name: read_header(path).fingerprint for path in sorted(site.glob("*.h5"))}
    for path in (site / "network.pt", site / "run" / "best.pt", site / "run" / "last.pt"):
        found[path.name] = load_network(path).fingerprint()
    found["comparison.json"] = (site / "comparison.json").read_text()
    return found


def test_a_site_holds_what_every_command_writes(site: Path, world: Path) -> None:
    names = {path.name for path in site.iterdir()}
    assert {"index.h5", "tuples.h5", "run", "network.pt", "descriptors.h5", "photos.json", "comparison.json"} < names
    assert {"state.json", "page", "whitening_start.h5", "evaluation_tuned_lw.json"} < names
    assert len(read_descriptors(site / "descriptors.h5").names) == 24
    assert not [name for name in names if name.endswith(".part")]


def test_a_second_call_makes_nothing(site: Path, world: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*") if path.name not in ("state.json", ".lock")}
    _, said = tuned(world, site)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert not [line for line in said if "made again" in line]
    assert "kept as it is" in "\n".join(said)
    assert f"step 7 of {len(tuning.STEPS)}, page, about 0 s left" in said


def test_the_kept_network_is_the_best_on_held_out_places(site: Path) -> None:
    comparison = read_comparison(site / "comparison.json")
    values = {row.way: row.value.mean for row in comparison.rows}
    assert list(values) == ["start", "start_lw", "halfway", "halfway_lw", "tuned", "tuned_lw"]
    assert values[comparison.kept] == max(values.values())
    for way, value in values.items():
        result = json.loads((site / f"evaluation_{way}.json").read_text())
        assert result["mean_over_queries"] == pytest.approx(value, abs=1e-12)
        assert result["queries"] == comparison.queries


def test_the_site_is_what_its_network_describes(site: Path) -> None:
    """The whitening lies inside the network, and photos of models were not described a second time."""
    opened = Site.open(site)
    values = opened.describe(opened.photos.files)
    assert np.abs(values - opened.descriptors.values).max() < 2e-5


def test_an_evaluation_is_what_the_command_measures(site: Path, tmp_path: Path) -> None:
    words = ["--descriptors", site / "descriptors_tuned.h5", "--distractors", site / "descriptors_tuned.h5"]
    words += ["--whitening", site / "whitening_tuned.h5", "--min-shared", _shared(site)]
    assert run("evaluate", "--index", site / "index.h5", *words, "-o", tmp_path / "e.json") == 0
    own, its = (json.loads(p.read_text()) for p in (site / "evaluation_tuned_lw.json", tmp_path / "e.json"))
    assert own["mean_over_queries"] == its["mean_over_queries"]


def _shared(site: Path) -> int:
    return SiteState.read(site / "state.json").content["effort"]["of"]["facts"]["min_shared"]


class Killed(BaseException):
    """Ends a call as a signal would: nothing catches it."""


def _raising(function: Callable[..., Any], after: bool) -> Callable[..., Any]:
    def killed(*args: Any, **kwargs: Any) -> Any:
        if after:
            function(*args, **kwargs)
        raise Killed

    return killed


MOMENTS = [
    (tuning, "build_index", False),
    (tuning, "build_index", True),
    (steps, "mine_tuple_file", True),
    (steps, "train", False),
    (steps, "train", True),
    (steps, "write_descriptors", True),
    (steps, "write_whitening", False),
    (steps, "write_comparison", True),
    (steps, "save_checkpoint", False),
    (steps, "write_database", True),
    (tuning, "write_site_page", False),
]


def test_a_call_that_is_killed_anywhere_ends_the_same(
    site: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One site, killed at eleven moments in turn; each call goes on where the last one ended."""
    folder = tmp_path / "site"
    for module, name, after in MOMENTS:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, _raising(getattr(module, name), after))
            with pytest.raises(Killed):
                tuned(world, folder)
    tuned(world, folder)
    assert content_of(folder) == content_of(site)


def test_a_training_that_is_killed_goes_on_after_its_last_round(
    site: Path, world: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copy / "run")
    rounds: list[int] = []

    def stop(self: Any, figures: Any) -> None:
        rounds.append(figures.round)
        if figures.round == 1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(steps.Steps, "_say_round", stop)
        with pytest.raises(Killed):
            tuned(world, copy)
    _, said = tuned(world, copy)
    assert rounds == [0, 1]
    assert [line for line in said if "  round " in line] == [line for line in said if line.startswith("  round 2")]
    assert content_of(copy) == content_of(site)


def test_a_process_that_is_killed_leaves_what_the_next_goes_on_from(site: Path, world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[3]); import test_site as t; "
        "t.make_short(t.pytest.MonkeyPatch()); t.tuned(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    tests = str(Path(__file__).parent)
    process = subprocess.Popen([sys.executable, "-c", code, str(world), str(folder), tests], stdin=subprocess.DEVNULL)
    limit = time.monotonic() + 120
    while not (folder / "run" / "last.pt").exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    tuned(world, folder)
    assert content_of(folder) == content_of(site)


@pytest.fixture
def other_photo(world: Path) -> Iterator[None]:
    """A photo of the world is mirrored while a test runs."""
    photo = sorted(world.rglob("*.jpg"))[-1]
    before, times = photo.read_bytes(), photo.stat()
    with Image.open(photo) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photo, quality=95)
    yield
    photo.write_bytes(before)
    os.utime(photo, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.usefixtures("other_photo")
def test_what_has_changed_is_made_again_and_said(world: Path, copy: Path) -> None:
    _, said = tuned(world, copy)
    assert "  tuples.h5: made again, since photos changed" in said
    assert "  descriptors_start.h5: made again, since photos changed" in said
    _, said = tuned(world, copy, seed=1)
    assert any(line.startswith("  tuples.h5: made again, since ") and "seed is 1, was 0" in line for line in said)
    (copy / "network.pt").unlink()
    _, said = tuned(world, copy, seed=1)
    assert [line for line in said if "made again" in line] == ["  network.pt: made again, since it was removed"]


def test_a_photo_that_comes_changes_the_search_alone(world: Path, copy: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    Image.open(sorted(world.rglob("*.jpg"))[0]).rotate(90, expand=True).save(more / "new.jpg")
    request = TuneRequest((world, more), copy, NetworkChoice(backbone=BACKBONE), device="cpu")
    said: list[str] = []
    tune_site(request, said.append)
    again = [line.split(":")[0].strip() for line in said if "made again" in line]
    assert again == ["index.h5", "descriptors.h5", "page"]
    assert "more/new.jpg" in read_descriptors(copy / "descriptors.h5").names
    assert "25 photos can be asked" in (copy / "page" / "index.html").read_text()
    assert "1 photo in no model" in (copy / "page" / "index.html").read_text()
    assert Site.open(copy).photos.places.count("") == 1


def test_a_training_that_harms_is_not_kept(world: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What training gives describes photos at random; the network off the shelf is left, with or without L_w."""
    honest, first = steps.describe_photos, []

    def harmed(network: Any, *rest: Any) -> Any:
        found, failures = honest(network, *rest)
        first.append(network)
        if network is not first[0]:
            found.values[:] = unit_rows(np.random.default_rng(0), *found.values.shape)
        return found, failures

    monkeypatch.setattr(steps, "describe_photos", harmed)
    for path in copy.glob("descriptors_*.h5"):
        path.unlink()
    found, _ = tuned(world, copy)
    rows = {row.way: row for row in found.comparison.rows}
    assert found.comparison.kept in ("start", "start_lw")
    assert rows["tuned"].gain.mean < 0
    assert load_network(copy / "network.pt").description.weights == "random, seed 0"


def test_a_training_that_collapses_is_left_out(world: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of photos that are all alike the held-out ones would come first, for ties go by rows."""
    honest = steps.candidates_of

    def collapsed(start: Any, folder: Path) -> Any:
        for candidate in honest(start, folder):
            if candidate.name != "start":
                with torch.no_grad():
                    for value in candidate.network.backbone.parameters():
                        value.mul_(0.0)
                    list(candidate.network.backbone.parameters())[-1].add_(1.0)
            yield steps.Candidate(candidate.name, candidate.network, candidate.network.fingerprint())

    monkeypatch.setattr(steps, "candidates_of", collapsed)
    found, said = tuned(world, copy)
    assert [row.way for row in found.comparison.rows] == ["start", "start_lw"]
    assert "  tuned: describes all photos alike, and is left out" in said


def test_one_small_place_gets_a_search_by_the_network_as_it_came(world: Path, tmp_path: Path) -> None:
    shutil.copytree(next(iter(sorted(world.iterdir()))), tmp_path / "one")
    found, said = tuned(tmp_path / "one", tmp_path / "site")
    assert any(line.startswith("  training: none, since there is one place only") for line in said)
    assert "  held out: nothing, since there is one place only" in said
    assert "step 3 of 7, train: left out, since nothing is trained" in said
    assert not any(line.startswith("  negatives: ") for line in said)
    assert any(line.startswith("  1 place: 1 for training") for line in said)
    assert any(line.startswith("  whitening: none, since nothing can vouch") for line in said)
    assert found.comparison.kept == "start"
    assert "nothing can vouch" in found.comparison.verdict()
    assert not (tmp_path / "site" / "run").exists()
    assert load_network(tmp_path / "site" / "network.pt").whitening is None
    assert len(Site.open(tmp_path / "site").ask(sorted(world.rglob("*.jpg"))[-1], 3)) == 3


def test_poses_alone_get_points_of_their_photos(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    from tests.rooms import photograph_posed_room

    found, said = tuned(photograph_posed_room(tmp_path / "capture"), tmp_path / "site")
    (line,) = [line for line in said if "had poses alone" in line]
    assert line.startswith("  transforms.json had poses alone: ")
    assert found.facts.photos == 6
    # A second call makes nothing: neither the tracks nor the index.
    _, said = tuned(tmp_path / "capture", tmp_path / "site")
    assert not any("had poses alone" in line for line in said)


def test_two_places_are_judged_but_nothing_is_trained(world: Path, tmp_path: Path) -> None:
    for scene in sorted(world.iterdir())[:3:2]:
        shutil.copytree(scene, tmp_path / "two" / scene.name)
    found, _ = tuned(tmp_path / "two", tmp_path / "site")
    assert [row.way for row in found.comparison.rows] == ["start", "start_lw"]
    assert found.comparison.places == 1
    assert not (tmp_path / "site" / "tuples.h5").exists()


def test_what_is_trained_no_more_leaves_nothing_behind(world: Path, copy: Path) -> None:
    found, said = tuned(world, copy, budget=1.0)
    assert found.choices.training is None
    left = {path.name for path in copy.iterdir()} - {".lock", "network.npz"}
    assert not [name for name in left if "tuned" in name or "halfway" in name]
    assert "_tuned" not in (copy / "page" / "index.html").read_text()
    page = next(line for line in said if line.startswith("  page: made again"))
    assert page.endswith("; choices changed")
    assert "{" not in page


def test_photos_without_a_model_and_a_folder_that_is_no_site_are_refused(world: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"holds no model .*, and no photo"):
        tuned(empty, tmp_path / "site")
    with pytest.raises(UsageError, match="no site that tune made"):
        tuned(world, world)
    with pytest.raises(DataError, match="is no site"):
        Site.open(empty)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "state.json").write_text("{}")
    with pytest.raises(SfmTuplesError, match="not the state of a site"):
        tuned(world, tmp_path / "begun")


def test_two_processes_do_not_work_on_one_site(world: Path, copy: Path) -> None:
    with tuning.held_site(copy), pytest.raises(DataError, match="another process"):
        tuned(world, copy)


def test_a_site_below_its_own_root_is_not_searched(world: Path, tmp_path: Path) -> None:
    shutil.copytree(sorted(world.iterdir())[0], tmp_path / "all" / "one")
    (tmp_path / "all" / "site").mkdir()
    for _ in range(2):
        found, _ = tuned(tmp_path / "all", tmp_path / "all" / "site")
        assert found.photos == len(list((tmp_path / "all" / "one").rglob("*.jpg")))


@pytest.fixture(scope="module")
def new_photo(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of the world, smaller than it was."""
    path = tmp_path_factory.mktemp("asked") / "new.jpg"
    with Image.open(sorted(world.rglob("*.jpg"))[3]) as photo:
        photo.resize((88, 66)).save(path)
    return path


def test_ask_finds_the_nearest_by_brute_force(site: Path, world: Path, new_photo: Path) -> None:
    opened = Site.open(site)
    network = load_network(site / "network.pt")
    query = extract(network, [new_photo], ExtractionOptions(opened.extraction.image_size))[0]
    similarity = [float(np.dot(query, row)) for row in opened.descriptors.values]
    wanted = sorted(range(len(similarity)), key=lambda row: (-similarity[row], row))[:7]
    found = opened.ask(new_photo, 7)
    assert [one.name for one in found] == [opened.photos.names[row] for row in wanted]
    assert [one.rank for one in found] == [1, 2, 3, 4, 5, 6, 7]
    assert found[0].file.is_file()
    assert found[0].place == found[0].name.split("/")[0]
    own = sorted(world.rglob("*.jpg"))[0]
    assert own.resolve() not in [one.file.resolve() for one in opened.ask(own, 30)]
    assert len(opened.ask(own, 30)) == 23


def test_a_question_from_the_shell_does_without_torch(site: Path, new_photo: Path) -> None:
    """Loading torch takes longer than all the rest; the similarities are those of torch."""
    program = (
        "import sys; from cli.main import group; "
        "group.main(sys.argv[1:], standalone_mode=False); assert 'torch' not in sys.modules"
    )
    words = ["ask", str(site), str(new_photo), "--json"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)["answers"][str(new_photo)]
    usual = Site.open(site, device="cpu").ask(new_photo)
    assert [one["name"] for one in plain] == [one.name for one in usual]
    assert [one["similarity"] for one in plain] == pytest.approx([one.similarity for one in usual], abs=1e-5)


def test_a_site_reads_its_layers_once_for_many_questions(site: Path, new_photo: Path) -> None:
    program = (
        "import sys; from retrieval.site import questions; read, paths = questions.read_layers, []; "
        "questions.read_layers = lambda path: paths.append(path) or read(path); "
        "site = questions.Site.open(sys.argv[1]); found = [site.ask(sys.argv[2]) for _ in range(3)]; "
        "assert found[0] == found[2] and 'torch' not in sys.modules; print(len(paths))"
    )
    done = subprocess.run([sys.executable, "-c", program, site, new_photo], capture_output=True, text=True, timeout=120)
    assert done.stdout == "1\n", done.stderr


def test_ask_prints_a_table_and_writes_pairs_and_a_page(
    site: Path, new_photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, page = tmp_path / "pairs.txt", tmp_path / "page"
    assert run("ask", site, new_photo, "--num-results", 3, "--pairs", pairs, "--page", page) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[1].split() == ["rank", "similarity", "photo", "place"]
    names = [line.split()[2] for line in table[2:5]]
    assert pairs.read_text().splitlines() == [f"{new_photo} {name}" for name in names]
    html = (page / "index.html").read_text()
    assert all(name in html for name in names)
    assert len(list((page / "photos").iterdir())) == 4
    assert run("ask", site, new_photo, "--page", page) == 2
    assert run("ask", site, new_photo.parent, "--json", "--page", page, "--force") == 0
    assert len(json.loads(capsys.readouterr().out)["answers"][str(new_photo)]) == 10


def test_ask_verifies_by_local_features_that_are_kept(copy: Path, new_photo: Path) -> None:
    pytest.importorskip("pycolmap")
    assert run("ask", copy, new_photo, "--num-results", 2, "--verify", "--jobs", 1) == 0
    kept = sorted((copy / "features").iterdir())
    assert len(kept) == 2
    before = [path.stat().st_mtime_ns for path in kept]
    assert run("ask", copy, new_photo, "--num-results", 2, "--verify", "--jobs", 1) == 0
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_matches_that_are_chance_are_called_not_verified(new_photo: Path) -> None:
    """Only verified photos are put in order by their matches; the others stay in that of their similarity."""
    answers = [Answer(rank, 1 - rank / 10, f"{rank}.jpg", Path(f"{rank}.jpg"), "") for rank in range(1, 6)]
    found = reranked(Answers(new_photo, tuple(answers)), [9, 15, 14, 40, 0], 15)
    assert [(one.name, one.verified) for one in found.answers] == [
        *(("4.jpg", True), ("2.jpg", True), ("1.jpg", False), ("3.jpg", False), ("5.jpg", False)),
    ]
    assert [one.rank for one in found.answers] == [1, 2, 3, 4, 5]
    assert not found.is_unverified
    assert reranked(Answers(new_photo, tuple(answers)), [9, 14, 14, 14, 0], 15).is_unverified
    assert not Answers(new_photo, tuple(answers)).is_unverified


def test_an_answer_that_is_not_verified_says_so(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycolmap")
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert run("ask", copy, tmp_path / "noise.png", "--num-results", 2, "--verify", "--jobs", 1) == 0
    said = capsys.readouterr().out
    assert said.count("not verified") == 3
    assert "not verified: none of these shares more local features" in said


def test_the_only_question_that_is_too_small_to_verify_is_named(copy: Path, new_photo: Path, tmp_path: Path) -> None:
    """Some networks take it: the message was of the folder / and of a photo called "asked: 0"."""
    pytest.importorskip("pycolmap")
    Image.fromarray(np.zeros((12, 300, 3), np.uint8)).save(tmp_path / "thin.png")
    site = Site.open(copy)
    asked = Answers(tmp_path / "thin.png", tuple(site.ask(new_photo, 2)))
    with pytest.raises(PhotoError, match=rf"^{re.escape(str(tmp_path))}/thin\.png: 300 x 12 pixels are too few"):
        verified(site, [asked])


@pytest.mark.parametrize("trouble", ["read-only", "held", "full"])
def test_a_question_is_verified_where_nothing_can_be_kept(
    copy: Path, new_photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    pytest.importorskip("pycolmap")
    words = ("ask", copy, new_photo, "--num-results", 2, "--verify", "--jobs", 1, "--json")
    assert run(*words) == 0
    usual = json.loads(capsys.readouterr().out)
    torn = sorted((copy / "features").iterdir())
    torn[0].write_bytes(torn[0].read_bytes()[:100])
    torn[1].unlink()

    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    if trouble == "read-only":
        monkeypatch.setattr(site_files.os, "open", refuse)
    if trouble == "full":
        monkeypatch.setattr(verification, "write_features", refuse)
    with held_site(copy) if trouble == "held" else nullcontext():
        assert run(*words) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == usual
    assert "the local features are not kept for the next question" in said.err
    monkeypatch.undo()
    assert run(*words) == 0  # A torn file is made again.
    assert json.loads(capsys.readouterr().out) == usual
    assert len(list((copy / "features").iterdir())) == 2
    assert run("inspect", torn[0], "--verify") == 0


def test_a_question_among_the_models_photos_alone(
    copy: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more, new = tmp_path / "more", tmp_path / "new.png"
    more.mkdir()
    photo = np.array(Image.open(sorted(world.rglob("*.jpg"))[0]))
    for name, turned in ((more / "turned.png", photo[::-1]), (new, photo[::-1, ::-1])):
        Image.fromarray(turned).save(name)
    assert run("ask", copy, "--add", more) == 0
    opened = Site.open(copy)
    everything, models = opened.ask(new, 100), opened.ask(new, 100, only_models=True)
    assert len(everything) == 25, "the new photo is not in the site"
    assert [one.name for one in models] == [one.name for one in everything if one.place]
    assert [one.similarity for one in models] == pytest.approx([one.similarity for one in everything if one.place])
    capsys.readouterr()
    assert run("ask", copy, new, "--only-models", "--num-results", 1) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{new}, among 24 photos of models below {world}:"
    assert run("ask", copy, "--add", more, "--only-models") == 2
    photos = opened.photos
    loose = PhotoList(photos.names, photos.files, [""] * len(photos.names), photos.stamps)
    write_photo_list(copy / "photos.json", loose)
    assert run("ask", copy, new, "--only-models") == 2
    assert "none of its photos is in a model" in capsys.readouterr().err


def test_a_folder_of_questions_goes_on_after_photos_that_cannot_be_read(
    site: Path, new_photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "questions"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"no photo")
    shutil.copy(new_photo, folder / "b.png")
    (folder / "c.jpg").touch()
    for many in (False, True):  # Without torch, and with it.
        for number in range(8 * many):
            shutil.copy(new_photo, folder / f"d{number}.png")
        assert run("ask", site, folder, tmp_path / "absent.jpg", "--json") == 1
        said = capsys.readouterr()
        assert next(iter(json.loads(said.out)["answers"])) == str(folder / "b.png")
        assert len(json.loads(said.out)["answers"]) == 1 + 8 * many
        lines = said.err.splitlines()
        assert [line.split(": ")[1] for line in lines[:3]] == [
            *(str(folder / "a.jpg"), str(folder / "c.jpg"), str(tmp_path / "absent.jpg")),
        ]
        assert lines[3] == "warning: 3 photos that were asked for cannot be read"


def test_an_empty_name_is_not_the_current_folder(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell's variable that is not set: `ask site "$PHOTO"`."""
    monkeypatch.chdir(site)
    for words in (["ask", site, ""], ["ask", "", "x.jpg"], ["tune", "", "-o", "s"], ["tune", ".", "-o", ""]):
        assert run(*words) == 2
        assert "an empty name is neither a file nor a folder" in capsys.readouterr().err
    assert run("ask", site, "x.jpg", "--add", "") == 2


def test_a_photo_of_the_site_that_is_gone_does_not_stop_verify(
    copy: Path, new_photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycolmap")
    listed = json.loads((copy / "photos.json").read_text())
    nearest = Site.open(copy).ask(new_photo, 2)
    gone = nearest[0].name
    listed["files"][listed["names"].index(gone)] = str(tmp_path / "gone.jpg")
    (copy / "photos.json").write_text(json.dumps(listed))
    pairs = tmp_path / "pairs.txt"
    assert run("ask", copy, new_photo, "--num-results", 2, "--verify", "--jobs", 1, "--pairs", pairs) == 0
    assert {line.split()[1] for line in pairs.read_text().splitlines()} == {one.name for one in nearest}
    assert (
        f"1 photo of the site cannot be read any more and is taken to share nothing, first: {gone}"
        in capsys.readouterr().err
    )
    listed["files"] = [str(tmp_path / "gone.jpg")] * len(listed["files"])
    (copy / "photos.json").write_text(json.dumps(listed))
    shutil.rmtree(copy / "features")
    assert run("ask", copy, new_photo, "--num-results", 2, "--verify", "--jobs", 1) == 1
    assert capsys.readouterr().err.startswith(f"error: {copy / 'photos.json'}: none of its 2 photos can be read")


@pytest.mark.parametrize("name", ["photos.json", "network.pt", "features/x", "page", "descriptors_start.h5", ""])
def test_no_answer_is_written_over_a_file_of_the_site(
    site: Path, new_photo: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    before = content_of(site)
    for flag in ("--pairs", "--page"):
        assert run("ask", site, new_photo, flag, site / name, "--force") == 2
        line = f"error: {site / name}: is a file of the site; give the output another name\n"
        assert capsys.readouterr().err == line
    assert content_of(site) == before
    assert not SiteFiles(site).owns(site / "pairs.txt")
    assert not SiteFiles(site).owns(site.parent / "photos.json")


def test_an_empty_file_is_not_called_known_when_it_is_added(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.jpg").touch()
    assert run("ask", copy, "--add", tmp_path / "empty.jpg") == 0
    said = capsys.readouterr()
    assert "added 0 photos; already there: 0" in said.out
    assert "1 photo could not be read" in said.err


def test_a_network_that_cannot_be_is_refused_before_the_index(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        tune_site(TuneRequest((world,), tmp_path / "site", NetworkChoice(backbone="no such"), device="cpu"))
    assert not (tmp_path / "site" / "index.h5").exists()


def test_photos_that_are_added_are_found_and_stay(
    world: Path, copy: Path, new_photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    with Image.open(new_photo) as photo:
        photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(more / "mirrored.png")
    shutil.copy(sorted(world.rglob("*.jpg"))[0], more / "known.jpg")
    before = Site.open(copy).descriptors.values
    assert run("ask", copy, new_photo, "--add", more) == 0
    assert "added 1 photo; already there: 1" in capsys.readouterr().out
    opened = Site.open(copy)
    assert np.array_equal(opened.descriptors.values[:-1], before)
    assert opened.ask(more / "mirrored.png", 3)[0].name != opened.photos.names[-1]
    assert opened.photos.files[-1] == str(more / "mirrored.png")
    assert run("ask", copy, "--add", more) == 0
    _, said = tuned(world, copy)
    assert [line.split(":")[0].strip() for line in said if "made again" in line] == ["descriptors.h5", "page"]
    assert Site.open(copy).photos.files[-1] == str(more / "mirrored.png")


def test_a_photo_that_was_changed_is_described_anew_when_it_is_added(
    copy: Path, new_photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    added, same = tmp_path / "added.png", tmp_path / "same.png"
    for path, quarters in ((added, 1), (same, 2)):
        Image.fromarray(np.rot90(np.array(Image.open(new_photo)), quarters)).save(path)
    assert run("ask", copy, "--add", added, "--add", same) == 0
    before = Site.open(copy)
    shutil.copy(new_photo, added)
    assert run("ask", copy, "--add", added, "--add", same) == 0
    assert "added 1 photo; already there: 1" in capsys.readouterr().out
    after = Site.open(copy)
    assert after.photos.names == before.photos.names
    assert np.array_equal(after.descriptors.values[:-2], before.descriptors.values[:-2])
    assert np.array_equal(after.descriptors.values[-1], before.descriptors.values[-1])
    assert np.allclose(after.descriptors.values[-2], after.describe([added])[0], atol=1e-5)


def test_a_kill_between_list_and_descriptors_leaves_no_descriptor_of_an_earlier_photo(
    world: Path, copy: Path, new_photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = tmp_path / "added.png"
    Image.open(new_photo).rotate(90, expand=True).save(added)
    assert run("ask", copy, "--add", added) == 0
    shutil.copy(new_photo, added)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(site_database, "write_descriptors", killed)
        with pytest.raises(KeyboardInterrupt):
            tuned(world, copy)
    tuned(world, copy)
    opened = Site.open(copy)
    assert np.allclose(opened.descriptors.values[-1], opened.describe([added])[0], atol=1e-5)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["tune", "absent", "-o", "site", "--backbone", BACKBONE], 1, "absent: does not exist"),
        (["tune", ".", "-o", "site", "--quick", "--budget", "20m"], 2, "exclude each other"),
        (["tune", ".", "-o", "site", "--budget", "soon"], 2, "no time such as 90s"),
        (["ask", "absent", "photo.jpg"], 1, "absent: is no site"),
        (["ask", "absent"], 2, "say what to ask for"),
        (["ask", "absent", "--add", "x", "--verify"], 2, "for photos that are asked for"),
    ],
)
def test_a_wrong_request_is_one_line(
    words: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_photo_that_cannot_be_asked_for_is_one_line(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no photo")
    assert run("ask", site, tmp_path / "no.jpg") == 1
    assert "no.jpg: cannot be read as a photo" in capsys.readouterr().err
    with pytest.raises(PhotoError, match="no such photo"):
        Site.open(site).ask(tmp_path / "absent.jpg")


def test_an_unreadable_photo_does_not_stop_tune(world: Path, copy: Path, tmp_path: Path) -> None:
    changed = tmp_path / "world"
    shutil.copytree(world, changed, copy_function=shutil.copy2)
    sorted(changed.rglob("*.jpg"))[-1].write_bytes(b"no photo")
    sorted(changed.rglob("*.jpg"))[-2].write_bytes(b"no photo either")
    found, _ = tuned(changed, copy)
    assert len(read_descriptors(copy / "descriptors.h5").names) == found.photos == 22


def test_the_interval_of_a_mean_is_the_bootstraps() -> None:
    values = np.random.default_rng(3).random(17)
    found = mean_interval(values, draws=300, seed=5)
    rows = [row.tolist() for block in resamples(17, 300, 5) for row in block]
    low, high = oracles.bootstrap_interval(values.tolist(), rows, 0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high), abs=1e-12)
    with pytest.raises(UsageError):
        mean_interval(values, level=1.0)
    assert np.isnan(mean_interval(values[:0]).low)


def test_the_interval_is_as_wide_as_theory_says() -> None:
    """Of 400 normal values the mean's 95 % interval has half-width 1.96 σ / √n, within chance."""
    values = np.random.default_rng(0).normal(0.3, 2.0, 400)
    found = mean_interval(values)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)
    assert found.excludes_zero
    assert not mean_interval(values - values.mean()).excludes_zero


def test_a_gain_within_chance_is_called_so(tmp_path: Path, site: Path) -> None:
    start = json.loads((site / "evaluation_start.json").read_text())
    better = json.loads(json.dumps(start))
    counted = [entry for entry in better["per_query"] if entry["average_precision"] is not None]
    for number, entry in enumerate(counted):
        entry["average_precision"] += 0.1 if number % 2 else -0.09
    for name, content in (("start", start), ("tuned", better)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    found = compare({"start": tmp_path / "start.json", "tuned": tmp_path / "tuned.json"})
    assert found.kept == "tuned"
    assert "is within chance" in found.verdict()
    for entry in counted:
        entry["average_precision"] = 1.0
    (tmp_path / "tuned.json").write_text(json.dumps(better))
    assert "more than chance" in compare({n: tmp_path / f"{n}.json" for n in ("start", "tuned")}).verdict()


def test_ways_that_cannot_be_told_apart_are_chosen_by_what_they_did_elsewhere(tmp_path: Path, site: Path) -> None:
    """Equal on held-out places: half-way + L_w. Worse within chance, but by more than a point: not kept. Nor where it
    is worse by less, and surely."""
    content = json.loads((site / "evaluation_start.json").read_text())
    counted = [entry for entry in content["per_query"] if entry["average_precision"] is not None]
    turns = np.where(np.arange(len(counted)) % 2, 1.0, -1.0)
    turns -= turns.mean()

    def kept(favoured: tuple[str, ...] = BEST_ELSEWHERE, **added: np.ndarray) -> Comparison:
        for way, more in added.items():
            for entry, value in zip(counted, 0.5 + more, strict=True):
                entry["average_precision"] = value
            (tmp_path / f"{way}.json").write_text(json.dumps(content))
        return compare({way: tmp_path / f"{way}.json" for way in added}, favoured)

    nothing = 0 * turns
    assert kept(start=nothing, start_lw=nothing, halfway=nothing, halfway_lw=nothing).kept == "halfway_lw"
    near = kept(start=nothing, start_lw=0.3 * turns - 0.009)
    assert near.kept == "start_lw"
    assert "cannot tell from the best" in near.verdict()
    assert kept(start=nothing, start_lw=0.3 * turns - 0.011).kept == "start"
    assert kept(start=nothing, start_lw=nothing - 0.009).kept == "start"
    assert kept(start=nothing, start_lw=nothing, tuned=nothing + 0.02).kept == "tuned"
    assert kept(SAFEST, start=nothing, start_lw=nothing, halfway=nothing + 0.009, tuned=0.3 * turns).kept == "halfway"
    assert kept(SAFEST, start=nothing, start_lw=nothing, tuned=0.3 * turns + 0.009).kept == "start"


def test_what_training_adds_is_told_apart_from_the_whitening(tmp_path: Path, site: Path) -> None:
    """L_w gains 0.3 for each question; training on top of it gains and loses in turn, within chance."""
    content = json.loads((site / "evaluation_start.json").read_text())
    counted = [entry for entry in content["per_query"] if entry["average_precision"] is not None]
    added = np.where(np.arange(len(counted)) % 2, 0.1, -0.09)
    ways = {"start": 0 * added, "start_lw": 0.3 + 0 * added, "tuned": added, "tuned_lw": 0.3 + added}
    for way, more in ways.items():
        for entry, value in zip(counted, 0.2 + more, strict=True):
            entry["average_precision"] = value
        (tmp_path / f"{way}.json").write_text(json.dumps(content))
    paths = {way: tmp_path / f"{way}.json" for way in ways}
    found = compare(paths)
    training = {row.way: row.training for row in found.rows}
    assert found.kept == "tuned_lw"
    assert training["start"] is training["start_lw"] is None
    for way in ("tuned", "tuned_lw"):
        assert vars(training[way]) == pytest.approx(vars(mean_interval(added)))
    assert "is more than chance; training alone, over off the shelf + L_w, adds" in found.verdict()
    assert found.verdict().endswith("which is within chance")
    write_comparison(tmp_path / "comparison.json", found)
    assert read_comparison(tmp_path / "comparison.json") == found
    assert compare({way: paths[way] for way in ("start", "start_lw")}).verdict().endswith("nothing was trained")
    assert "all of it comes of training" in compare({way: paths[way] for way in ("start", "tuned")}).verdict()
    worse = compare({"start": paths["start"], "start_lw": paths["start_lw"], "tuned_lw": paths["start"]})
    assert worse.verdict().endswith("training adds nothing to it")


def test_half_way_lies_half_way() -> None:
    left, right = (build_network(BACKBONE, "gem", seed=seed) for seed in (0, 1))
    middle = between(left, right, 0.25).state_dict()
    for name, value in left.state_dict().items():
        assert torch.allclose(middle[name], 0.75 * value + 0.25 * right.state_dict()[name], atol=1e-7)
    assert between(left, right, 0.0).fingerprint() == left.fingerprint()
    assert between(left, right, 1.0).fingerprint() == right.fingerprint()
    with pytest.raises(UsageError, match="not built alike"):
        between(left, build_network("squeezenet1_1", "gem"))


PACE = Pace(0.05, 0.05)
FACTS = Facts(16, 4, 300, 80, 70, 15, 0.2, 280, 16, 1024)


def test_a_site_sees_photos_as_their_exif_says(
    world: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A telephone stores what was taken upright as lying; tuples, networks, search and both ways to ask turn it."""
    with Image.open(sorted(world.rglob("*.jpg"))[5]) as photo:
        upright = photo.convert("RGB").crop((0, 0, 60, 72))
    upright.save(tmp_path / "upright.png")
    turned = Image.Exif()
    turned[0x112] = 6
    (tmp_path / "more").mkdir()
    lying = tmp_path / "more" / "lying.png"
    upright.transpose(Image.Transpose.ROTATE_90).save(lying, exif=turned)
    request = TuneRequest((world, tmp_path / "more"), copy, NetworkChoice(backbone=BACKBONE), device="cpu")
    tune_site(request, lambda line: None)
    assert read_tuples(copy / "tuples.h5").header.options["upright"] == "exif"
    for path in (copy / "run" / "last.pt", copy / "network.pt"):
        assert load_network(path).upright == "exif"
    site = Site.open(copy)
    wanted = extract(site.network, [tmp_path / "upright.png"], ExtractionOptions(site.extraction.image_size))[0]
    described = dict(zip(site.descriptors.names, site.descriptors.values, strict=True))
    np.testing.assert_allclose(described["more/lying.png"], wanted, atol=1e-5)
    np.testing.assert_allclose(site.describe([lying])[0], wanted, atol=1e-5)
    monkeypatch.setattr(Site, "_plain", lambda self, count: read_layers(self.files.layers))
    np.testing.assert_allclose(site.describe([lying])[0], wanted, atol=1e-4)


def test_choices_follow_the_data() -> None:
    few = choose_options(FACTS, Effort(4, 2000, 512), "cpu", 0, is_random=False, is_whitened=False)
    assert (few.mining.query_share, few.mining.queries_per_place, few.mining.num_negatives) == (
        1.0,
        choices.PER_PLACE,
        5,
    )
    assert few.training
    assert few.training["rounds"] == 4
    many = Facts(400, 100, 40_000, 9_000, 8_000, 15, 0.2, 39_000, 400, 3000)
    found = choose_options(many, Effort(4, 2000, 1024), "cuda", 0, is_random=False, is_whitened=True)
    assert found.mining.query_share == 0.1
    assert found.whitening is None
    assert found.packed == 0
    long = {"is_random": False, "is_whitened": False, "dimension": 8448}
    found = choose_options(FACTS, Effort(4, 2000, 512), "cpu", 0, **long)
    assert found.whitening is None
    assert "whitening: none, since 8,448 dimensions are too many" in "\n".join(map(str, found.said))
    assert choose_options(FACTS, Effort(4, 2000, 512), "cpu", 0, **{**long, "dimension": 4096}).whitening is not None
    three = Facts(2, 1, 30, 9, 9, 15, 0.2, 28, 2, 640)
    assert (
        choose_options(three, Effort(4, 2000, 512), "cpu", 0, is_random=False, is_whitened=False).mining.num_negatives
        == 1
    )
    blind = Facts(2, 1, 30, 9, 0, 15, 0.2, 28, 2, 640)
    assert "nothing can vouch" in can_train(blind)
    assert all(choice.reason and choice.value for choice in [*few.said, *found.said])


def test_a_budget_gives_what_fits() -> None:
    def within(budget: float | None, quick: bool = False) -> Effort:
        return effort_within(FACTS, 100, PACE, "cpu", budget=budget, quick=quick, is_random=False)

    full = within(None)
    assert (full.rounds, full.image_size, full.reason) == (4, 512, "")
    whole = forecast(FACTS, 100, full, PACE).total
    for budget in (60, 120, 300, 600, whole, 3 * whole):
        found = within(budget)
        expected = forecast(FACTS, 100, found, PACE).total
        assert expected <= budget * 1.1 or (found.rounds == 0 and found.image_size == 192)
        assert found.reason
    assert [within(budget).rounds for budget in (10, 3 * whole)] == [0, 8]
    quick = within(None, quick=True)
    assert forecast(FACTS, 100, quick, PACE).total <= 1.1 * max(0.1 * whole, 60)
    assert within(20).image_size < full.image_size


def test_a_short_time_says_what_it_is_left_for() -> None:
    limits: dict[str, Any] = {"quick": False, "is_random": False}
    assert (
        "budget leaves what follows the index 2 min, "
        in effort_within(FACTS, 100, PACE, "cpu", budget=120, **limits).reason
    )
    assert " of it for training, a photo takes " in effort_within(FACTS, 100, PACE, "cpu", budget=120, **limits).reason
    one_place = Facts(1, 1, 90_000, 0, 0, 15, 0.2, 90_000, 1, 640)
    untrained = effort_within(one_place, 0, PACE, "cpu", budget=120, **limits).reason
    assert "training" not in untrained
    assert "budget leaves what follows the index 2 min, a photo takes" in untrained
    assert effort_within(FACTS, 100, PACE, "cpu", budget=0.0, **limits).rounds == 0


def test_the_steps_before_count_in_a_budget(world: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten minutes three are gone once the models are read; decided once, the second call does not ask the clock."""
    usual = tuning.build_index
    past = [0.0]

    def slow(*words: Any, **more: Any) -> Any:
        past[0] += 180
        return usual(*words, **more)

    monkeypatch.setattr(tuning, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + past[0]))
    monkeypatch.setattr(tuning, "build_index", slow)
    (copy / "index.h5").unlink()
    _, said = tuned(world, copy, budget=600.0)
    assert [line for line in said if "budget of" in line] == ["  of the budget of 10 min 7 min are left"]
    past[0] = 0
    _, said = tuned(world, copy, budget=600.0)
    assert not [line for line in said if "budget of" in line]
    (copy / "index.h5").unlink()
    _, said = tuned(world, copy, budget=100.0)
    assert "of the budget of 2 min 0 s are left: the steps before took 3 min; what follows is the least" in "\n".join(
        said
    )
    assert json.loads((copy / "state.json").read_text())["effort"]["effort"]["rounds"] == 0


def test_a_quick_site_without_training_keeps_its_size_where_that_is_quick() -> None:
    def quick(photos: int) -> Effort:
        one_place = Facts(1, 1, photos, 0, 0, 15, 0.2, photos, 1, 640)
        return effort_within(one_place, 0, PACE, "cpu", budget=None, quick=True, is_random=False)

    assert (quick(100).image_size, quick(100).reason) == (512, "")
    assert quick(100_000).image_size < 512


def test_small_photos_are_trained_on_together_on_a_processor() -> None:
    assert [choices.together_at(*at) for at in ((192, "cpu"), (256, "cpu"), (192, "cuda"))] == [8, None, None]


def test_times_are_read_and_said() -> None:
    assert [seconds_of(text) for text in ("90s", "20m", "2h", "5")] == [90, 1200, 7200, 300]
    for text in ("", "m", "-3m", "nan", "inf"):
        with pytest.raises(ValueError, match=r".*"):
            seconds_of(text)
    assert duration(3599) == "60 min"


def test_a_file_that_another_hand_has_touched_is_made_again(tmp_path: Path) -> None:
    said: list[str] = []
    workshop = Workshop(SiteState.read(tmp_path / "state.json"), said.append)
    made: list[bool] = []

    def build(goes_on: bool) -> None:
        made.append(goes_on)
        (tmp_path / "file").write_text("whole")

    assert workshop.make(tmp_path / "file", {"size": 3}, build)
    assert not workshop.make(tmp_path / "file", {"size": 3}, build)
    again = Workshop(SiteState.read(tmp_path / "state.json"), said.append)
    os.utime(tmp_path / "file", ns=(1, 1))
    assert again.make(tmp_path / "file", {"size": 3}, build)
    assert again.make(tmp_path / "file", {"size": 4}, build)
    again.discard(tmp_path / "file")
    assert not (tmp_path / "file").exists()
    assert made == [False, False, False]
    assert said == [
        "  file: made again, since something else has written to it",
        "  file: made again, since size is 4, was 3",
    ]


def test_the_examples_of_the_page_run(
    world: Path, new_photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each as it stands, in a folder with models and a photo."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "python_api.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", page.split("## Sites, tuples and networks")[1], re.M | re.S)
    assert len(examples) == 3
    shutil.copy(new_photo, tmp_path / "new.jpg")
    (tmp_path / "models").symlink_to(world)
    monkeypatch.chdir(tmp_path)
    for example in examples:
        exec(compile(example, "python_api.md", "exec"), {})


def test_a_dataset_gives_the_tuples_of_the_file(site: Path) -> None:
    tuples = read_tuples(site / "tuples.h5")
    found = sfm2tuples.TupleDataset(site / "tuples.h5", image_size=48)
    assert len(found) == len(tuples.tuples["train"].query)
    photos = TuplePhotos(tuples, 48)
    for number in (0, len(found) - 1):
        item, row = found[number], int(tuples.tuples["train"].query[number])
        wanted = torch.from_numpy(photos.load(row)).permute(2, 0, 1) / 255
        assert torch.equal(item.query, wanted)
        assert item.keys[0] == tuples.images.key[row]
        assert len(item.negatives) == int((tuples.tuples["train"].negative[number] >= 0).sum())
        assert len(item.keys) == 1 + len(item.positives) + len(item.negatives)
    loader = torch.utils.data.DataLoader(found, batch_size=None, num_workers=1)
    assert [item.keys for item in loader] == [found[number].keys for number in range(len(found))]
    with pytest.raises(IndexError):
        found[len(found)]
    with pytest.raises(UsageError, match="no split test"):
        sfm2tuples.TupleDataset(site / "tuples.h5", split="test")


def test_tune_from_python_takes_texts(world: Path, copy: Path) -> None:
    said: list[str] = []
    choice = NetworkChoice(backbone=BACKBONE)
    found = sfm2tuples.tune(str(world), str(copy), network=choice, device="cpu", say=said.append)
    assert not [line for line in said if "made again" in line]
    assert found.photos == 24
    with pytest.raises(UsageError, match="no time such as"):
        sfm2tuples.tune(world, copy, network=choice, budget="soon")


@pytest.fixture
def loose_photos(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The world's photos without its models, and one more; what `reconstruct` would do is done by hand."""
    photos = tmp_path / "photos"
    for scene in world.iterdir():
        shutil.copytree(scene / "images", photos / scene.name)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (72, 96, 3), np.uint8)).save(photos / "alone.png")

    def by_hand(root: Path, output: Path, choice: NetworkChoice, **how: Any) -> SimpleNamespace:
        if not output.exists():
            for scene in world.iterdir():
                shutil.copytree(scene / "sparse" / "0", output / scene.name)
                (output / scene.name / "images").symlink_to(root / scene.name)
            (output / "images").symlink_to(root)
            rows = "image,label,role,verified_with,inliers\nalone.png,alone,distractor,,0\n"
            (output / "unregistered.csv").write_text(rows)
        models = [SimpleNamespace(images=6)] * 4
        return SimpleNamespace(remade=[], models=models, registered=24, photos=25, alone=1)

    monkeypatch.setattr(reconstruct, "reconstruct", by_hand)
    return photos


def test_photos_alone_are_reconstructed_first(loose_photos: Path, tmp_path: Path) -> None:
    found, said = tuned(loose_photos, tmp_path / "site")
    assert said[0] == "step 1 of 8, reconstruct"
    assert any("4 models of 24 of 25 photos" in line for line in said)
    assert found.photos == 25
    assert found.facts.distractors == 1
    assert found.choices.mining.num_negatives == 3
    images = read_tuples(tmp_path / "site" / "tuples.h5").images
    assert [key for key, row in zip(images.key, images.index_row, strict=True) if row < 0] == [
        key for key in images.key if key.endswith("alone.png")
    ]
    assert any(
        name.endswith("alone.png") for name in read_descriptors(tmp_path / "site" / "descriptors_start.h5").names
    )
    _, said = tuned(loose_photos, tmp_path / "site")
    assert not [line for line in said if "made again" in line]
    moved = (tmp_path / "site").rename(tmp_path / "moved")
    found = Site.open(moved)
    assert all(Path(file).is_relative_to(loose_photos) for file in found.photos.files)
    photo = next(file for file in found.photos.files if not file.endswith("alone.png"))
    assert photo not in [str(one.file) for one in found.ask(photo)]
    _, said = tuned(loose_photos, moved)
    assert [line for line in said if "made again" in line] == [
        f"  index.h5: made again, since the site's folder is {moved}, was {tmp_path / 'site'}"
    ]


def test_photos_of_the_same_bytes_are_counted(world: Path, copy: Path, tmp_path: Path) -> None:
    """Two copies of a photo of a model, a link to one, and a new photo with its copy: the site searches one more.

    Two photos of the world lie below two of its models.
    """
    more = tmp_path / "more"
    more.mkdir()
    first, second = sorted(world.rglob("*.jpg"))[:2]
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(first, more / name)
    (more / "link.jpg").symlink_to(second)
    for name in ("new.png", "same.png"):
        Image.fromarray(np.array(Image.open(first))[::-1]).save(more / name)
    _, said = tuned(world, copy, images=(str(more),))
    assert len(Site.open(copy).photos.names) == 25
    assert [line for line in said if "same bytes" in line] == [
        "  5 photos have the same bytes as others: each content is searched once"
    ]


def test_a_folder_of_photos_that_is_searched_is_not_called_unused(
    world: Path, copy: Path, new_photo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (copy / "index.h5").unlink()
    tuned(world, copy, images=(str(new_photo.parent),))
    assert str(new_photo) in Site.open(copy).photos.files
    what = "no model takes its photos from there, since all lie in images/ near their models"
    assert f"--images {new_photo.parent}: {what}" in caplog.messages


def test_the_page_of_a_site_shows_its_photos_and_speaks_of_networks_not_of_files(site: Path) -> None:
    main, held_out = ((site / "page" / name).read_text() for name in ("index.html", "held_out/index.html"))
    listed = [place for place in Site.open(site).photos.places if place]
    assert all(f'alt="{place}: {photos} photos"' in main for place, photos in Counter(listed).items())
    assert len(list((site / "page" / "photos").iterdir())) == len(set(listed))
    kept = read_comparison(site / "comparison.json")
    assert f"<h1>{kept.title}, on what was held out</h1>" in held_out
    assert "evaluation_" not in held_out
    assert "distractors have the name" not in held_out
    assert "<h1>site</h1>" in (site / "page" / "places" / "index.html").read_text()
    for name in ("places", "tuples"):
        assert 'class="over-photos"' in (site / "page" / name / "index.html").read_text(), name


def test_a_wrong_root_leaves_no_site_behind(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for root in (tmp_path / "absent", tmp_path / "empty"):
        with pytest.raises(DataError, match=root.name):
            tune_site(TuneRequest((root,), tmp_path / "site", NetworkChoice(backbone=BACKBONE), device="cpu"))
        assert not (tmp_path / "site").exists()


def test_a_wrong_name_of_places_changes_nothing(world: Path, copy: Path, tmp_path: Path) -> None:
    before = (copy / "state.json").read_bytes()
    for folder in (copy, tmp_path / "new"):
        with pytest.raises(DataError, match=r"absent.csv: no such file; give a CSV of model,place"):
            tuned(world, folder, places=tmp_path / "absent.csv")
    assert (copy / "state.json").read_bytes() == before
    assert not (tmp_path / "new").exists()


def test_models_of_photos_are_found_whatever_their_folder_is_called(tmp_path: Path) -> None:
    roots = [
        tmp_path / name for name in ("museum/images", "images/images", ".hidden/images", "x.nvm.cmvs", "wood", "b/wood")
    ]
    assert names_of_models(roots) == ["museum", "photos", "photos_2", tmp_path.name, "wood", "wood_5"]


@pytest.mark.usefixtures("loose_photos")
def test_a_site_among_loose_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the site lies in this folder of photos"):
        tuned(tmp_path / "photos", tmp_path / "photos" / "site")
    assert not (tmp_path / "photos" / "site").exists()


def made_by_hand(monkeypatch: pytest.MonkeyPatch, barren: str = "", full: str = "") -> None:
    """`reconstruct` makes a folder with one photo that is verified against nothing; no model comes of one folder."""

    def by_hand(root: Path, output: Path, *given: Any, **how: Any) -> SimpleNamespace:
        (output / ".steps").mkdir(parents=True, exist_ok=True)
        if root.name == barren:
            raise ReconstructionError(root, "no model comes of its photos", "see --min-images")
        if root.name == full:
            raise DataError(root / "a--b.jpg", "cannot be written", "make room")
        (output / "unregistered.csv").write_text("image,label,role\nalone.png,alone,distractor\n")
        return SimpleNamespace(remade=[], models=[SimpleNamespace(images=6)], registered=6, photos=7, alone=1)

    monkeypatch.setattr(reconstruct, "reconstruct", by_hand)


def test_models_of_photos_that_are_not_asked_for_any_more_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by_hand(monkeypatch)
    said: list[str] = []
    roots, models = [tmp_path / "day", tmp_path / "night"], tmp_path / "models"
    found = reconstruct.reconstruct_photos(roots, models, NetworkChoice(), "cpu", said.append)
    assert found.distractors is None, "a photo of the day was compared with none of the night"
    (models / "notes").mkdir()
    found = reconstruct.reconstruct_photos(roots[:1], models, NetworkChoice(), "cpu", said.append)
    assert sorted(path.name for path in models.iterdir()) == ["day", "notes", "unregistered.csv"]
    assert "  models/night: removed, since its photos are not asked for any more" in said
    assert found.distractors is not None
    assert "day/images/alone.png" in found.distractors.read_text()


def test_a_folder_without_a_model_says_whose_flags_would_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_by_hand(monkeypatch, "loose")
    flags = "see --min-images; these are flags of reconstruct, whose folder of models is a ROOT too"
    with pytest.raises(DataError, match=f"loose: no model comes of its photos; {flags}$"):
        reconstruct.reconstruct_photos([tmp_path / "loose"], tmp_path / "models", NetworkChoice(), "cpu", print)
    roots = [tmp_path / "day", tmp_path / "loose"]
    with pytest.raises(DataError, match=f"{flags}; photos that need no model are searched where --images names"):
        reconstruct.reconstruct_photos(roots, tmp_path / "models", NetworkChoice(), "cpu", print)
    made_by_hand(monkeypatch, full="day")
    with pytest.raises(DataError, match=r"day/a--b\.jpg: cannot be written; make room$"):
        reconstruct.reconstruct_photos(roots, tmp_path / "models", NetworkChoice(), "cpu", print)


def test_a_folder_that_holds_the_site_is_asked_and_added_without_it(
    site: Path, new_photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "all" / "site"
    shutil.copytree(site, copy, copy_function=shutil.copy2)
    shutil.copy(new_photo, tmp_path / "all" / "new.png")
    page = copy / "page" / "photos"
    Image.open(next(page.iterdir())).rotate(180).save(page / "other.png")
    assert run("ask", copy, tmp_path / "all", "--json") == 0
    assert list(json.loads(capsys.readouterr().out)["answers"]) == [str(tmp_path / "all" / "new.png")]
    assert run("ask", copy, "--add", tmp_path / "all") == 0
    assert "added 1 photo; already there: 0" in capsys.readouterr().out


def test_photos_none_of_which_can_be_read_are_all_named(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(b"no photo")
    assert run("ask", site, tmp_path / "a.jpg", tmp_path / "b.jpg", "--verify", "--page", tmp_path / "page") == 1
    error = capsys.readouterr().err
    assert "a.jpg: cannot be read" in error
    assert "b.jpg: cannot be read" in error
    assert not (tmp_path / "page").exists()


def test_a_list_of_photos_that_is_lost_or_damaged_is_made_again(world: Path, copy: Path, new_photo: Path) -> None:
    photos, before = copy / "photos.json", (copy / "photos.json").read_text()
    photos.unlink()
    _, said = tuned(world, copy)
    assert [line for line in said if "again" in line] == ["  descriptors.h5: made again, since photos.json was removed"]
    assert photos.read_text() == before
    photos.write_text(before[:-40])
    with pytest.raises(FileFormatError, match="run tune again"):
        Site.open(copy).ask(new_photo)
    _, said = tuned(world, copy)
    assert "  descriptors.h5: made again, since something else has written to it" in said
    assert photos.read_text() == before
    assert len(Site.open(copy).ask(new_photo)) == 10
