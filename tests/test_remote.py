"""Photos and models on other machines: the results are those of local files, and what does not come is said in a line.

Tests with a server need aiohttp, which the extra `remote` brings; the others use fsspec's file system in memory.
"""

from __future__ import annotations

import importlib.util
import io
import os
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hand_made import run
from photo_server import CUT, HANG, PhotoServer, served
from PIL import Image
from worlds import read_whole

from retrieval.descriptors.shards import photo_stamp
from retrieval.photos.decoding import load_photo, photo_size
from retrieval.photos.names import photos_below
from retrieval.photos.sizes import PhotoSizes
from retrieval.photos.sources import photos_of
from retrieval.photos.tuple_photos import PROCESSES, THREADS, TuplePhotos
from sfm2tuples.errors import DataError, PhotoError, UsageError
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import read_descriptors
from sfm2tuples.files.remote import reading
from sfm2tuples.files.remote.address import Address, is_address, path_or_address, photo_at, without_credentials
from sfm2tuples.files.remote.listing import files_below
from sfm2tuples.files.remote.reading import AbsentError, FetchError, UnreachableError, read_bytes
from sfm2tuples.index.schema import TABLES
from sfm2tuples.ingest.jobs import Wanted, find_files, jobs_of, read_models
from sfm2tuples.ingest.mirror import local_roots
from sfm2tuples.mining.photo_keys import key_of
from sfm2tuples.mining.tuple_file import read_tuples
from sfm2tuples.places.photo_contents import number_photos
from sfm2tuples.world.synthetic import write_world

NETWORK = ["--backbone", "squeezenet1_1", "--image-size", 48, "--quiet"]
MINING = ["--query-share", 1, "--num-negatives", 1, "--min-overlap", 0.05, "--quiet"]
HARD_NAMES = ["a b.jpg", "100%25.jpg", "ü/é#1?&x=y.jpg", "ü/+plus+.JPG", "deep/er/c.png", "http_1.jpg", "https/d.jpg"]


def photo(seed: int, size: tuple[int, int] = (40, 30)) -> bytes:
    """Bytes of a small JPEG that differs with the seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def put(folder: Path, names: list[str]) -> None:
    """Photos of these names below a folder."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photo(seed))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses between tries."""
    monkeypatch.setattr(reading, "PAUSE", 0.01)


@pytest.fixture
def server(tmp_path: Path, quick: None) -> Iterator[PhotoServer]:
    """A server of `tmp_path / "served"`, where some photos lie."""
    pytest.importorskip("aiohttp", reason="the extra remote is not installed")
    put(tmp_path / "served" / "photos", [f"{i}.jpg" for i in range(6)])
    with served(tmp_path / "served") as running:
        yield running


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world, its index, descriptors and tuples, all of local files."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder / "served" / "world", places=3, photos_per_place=6, size=(96, 72), seed=0, jobs=1)
    assert run("build-index", folder / "served" / "world", "-o", folder / "i.h5", "--quiet") == 0
    assert run("extract", folder / "i.h5", "-o", folder / "d.h5", *NETWORK) == 0
    assert run("mine-tuples", folder / "i.h5", "-o", folder / "t.h5", *NETWORK, *MINING) == 0
    return folder


@pytest.fixture
def far_world(world: Path, quick: None) -> Iterator[PhotoServer]:
    """A server of the world."""
    pytest.importorskip("aiohttp", reason="the extra remote is not installed")
    with served(world / "served") as running:
        yield running


# Addresses.


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://h/a b/c", "https://h/a%20b/c"),
        ("https://h/a%20b/", "https://h/a%20b"),
        ("http://h:8000/100%", "http://h:8000/100%25"),
        ("HTTPS://h/é#1", "https://h/%C3%A9%231"),
        ("https://h//a/./b/%2e%2e/c%2Fd//", "https://h/a/c%2Fd"),
        ("s3://bucket/a b%20/é", "s3://bucket/a b%20/é"),
        ("gcs://bucket", "gs://bucket"),
    ],
)
def test_an_address_is_quoted_where_its_server_wants_it(text: str, url: str) -> None:
    assert Address.parse(text).url == url
    assert path_or_address(url) == Address.parse(text)


def test_names_below_an_address_mean_themselves() -> None:
    folder = Address.parse("https://h/photos")
    assert (folder / "ü/100%25 +.jpg").url == "https://h/photos/%C3%BC/100%2525%20%2B.jpg"
    assert (folder / "ü/100%25 +.jpg").parts == ("https://h", "photos", "ü", "100%25 +.jpg")
    assert (folder / "./a/../b.jpg").name == "b.jpg"
    assert (folder / "b.jpg").parent == folder
    assert folder.parent.parent == Address("https", "h")
    assert (Address.parse("s3://bucket/a//b/") / "c/./d.jpg").url == "s3://bucket/a//b/c/d.jpg"
    assert photo_at("https://h/photos", "b.jpg") == folder / "b.jpg"
    assert photo_at("/here", "b.jpg") == Path("/here/b.jpg")


def test_credentials_are_for_the_server_alone() -> None:
    address = Address.parse("https://me:secret@h/p?signature=secret") / "a.jpg"
    assert address.url == "https://me:secret@h/p/a.jpg?signature=secret"
    assert "secret" not in f"{address} {address!r} {DataError(address, 'what')}"
    assert "secret" not in without_credentials("root=ftp://me:secret@h/p?signature=secret")
    with pytest.raises(UsageError, match="environment"):
        Address.parse("s3://key:secret@bucket/p")


@pytest.mark.parametrize("text", ["ftp://h/p", "https:///p", "s3://"])
def test_other_addresses_are_refused(text: str) -> None:
    assert is_address(text)
    with pytest.raises(UsageError):
        Address.parse(text)


def test_a_package_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sfm2tuples.files.remote.address.find_spec", lambda name: None if name == "s3fs" else "there")
    assert run("extract", "s3://bucket/photos", "-o", "d.h5") == 2
    said = capsys.readouterr().err
    assert "needs the package s3fs; pip install 'sfm2tuples[remote]'" in said
    assert said.count("\n") == 1


def test_keys_of_distractors_elsewhere() -> None:
    folder, root = Address.parse("https://h/all/more"), Address.parse("https://h/all")
    assert key_of(folder / "a b.jpg", folder, root) == "more/a b.jpg"
    assert key_of(folder / "x/a.jpg", folder, Path("/here")) == "more/x/a.jpg"
    assert key_of(Path("/there/d/a.jpg"), Path("/there/d"), root) == "d/a.jpg"


# In memory, as any store is read.


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Address]:
    """A bucket in memory with the files of `tmp_path / "photos"`, some of whose names are hard."""
    put(tmp_path / "photos", [*HARD_NAMES, ".hidden/x.jpg"])
    memory = fsspec.filesystem("memory")
    for path in (tmp_path / "photos").rglob("*"):
        if path.is_file():
            memory.pipe(f"/bucket/photos/{path.relative_to(tmp_path / 'photos')}", path.read_bytes())
    yield Address.parse("memory://bucket/photos")
    memory.rm("/bucket", recursive=True)


def test_a_bucket_is_listed_and_read_as_a_folder_is(bucket: Address, tmp_path: Path) -> None:
    here = photos_of(tmp_path / "photos")
    there = photos_of(bucket)
    assert there.keys == here.keys == photos_below(bucket)
    for one, other in zip(there.sources, here.sources, strict=True):
        assert (load_photo(one, 30) == load_photo(other, 30)).all()
        assert photo_size(one) == PhotoSizes()(one) == (40, 30)


def test_photos_of_the_same_bytes_are_one_wherever_they_lie(bucket: Address, tmp_path: Path) -> None:
    memory, here = fsspec.filesystem("memory"), str(tmp_path / "photos" / "a b.jpg")
    memory.pipe("/bucket/photos/copy.jpg", photo(0))
    memory.pipe("/bucket/photos/other.jpg", photo(0)[:-1] + b"?")
    memory.pipe("/bucket/photos/empty.jpg", b"")
    names = ["a b.jpg", "copy.jpg", "other.jpg", "100%25.jpg", "empty.jpg", "absent.jpg"]
    number, there = number_photos([here, *(bucket / name for name in names), here], [*"01234567"])
    assert there.tolist() == [True] * 5 + [False, False, True]
    assert number.tolist() == [0, 0, 0, 3, 4, 5, 6, 0]


def test_a_folder_that_is_not_there_is_one_line() -> None:
    with pytest.raises(DataError, match=r"memory://bucket/nothing: cannot be listed"):
        photos_of(Address.parse("memory://bucket/nothing"))


@pytest.mark.parametrize("scheme", ["memory", "http"])
def test_what_needs_a_local_file_says_so(scheme: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    if scheme == "http" and importlib.util.find_spec("aiohttp") is None:
        pytest.skip("the extra remote is not installed")
    there = f"{scheme}://me:secret@127.0.0.1:9/x" if scheme == "http" else f"{scheme}://bucket/x"
    target = ["-o", tmp_path / "made"]
    (tmp_path / "model").mkdir()
    for words in (
        ["tune", there, *target],
        ["tune", tmp_path / "model", "--images", there, *target],
        ["reconstruct", there, *target],
        ["reconstruct", tmp_path / "l.txt", "--images", there, *target],
        ["mine-tuples", f"{there}/i.h5", *target],
        ["train", f"{there}/t.h5", *target],
        ["extract", tmp_path / "model", "-o", f"{there}/d.h5"],
        ["evaluate", "--protocol", "oxford5k", "--data", there],
        ["build-index", there, "--triangulate", *target],
        ["build-index", tmp_path / "model", "--database", f"{there}/database.db", *target],
    ):
        assert run(*words) == 2, words
        said = capsys.readouterr().err
        assert said.count("\n") == 1, words
        assert "copy" in said, words
        assert "secret" not in said, words
    assert not (tmp_path / "made").exists()


# A server that fails.


def test_a_server_in_trouble_is_asked_again(server: PhotoServer) -> None:
    server.faults["photos/0.jpg"] = [500, 503]
    server.faults["photos/1.jpg"] = [CUT, 429]
    folder = Address.parse(f"{server.url}/photos")
    assert read_bytes(folder / "0.jpg") == photo(0)
    assert read_bytes(folder / "1.jpg") == photo(1)
    assert server.asked["photos/0.jpg"] == server.asked["photos/1.jpg"] == 3


def test_tries_end(server: PhotoServer) -> None:
    folder = Address.parse(f"{server.url}/photos")
    read_bytes(folder / "5.jpg")
    server.faults["photos/0.jpg"] = [500] * 9
    server.faults["photos/1.jpg"] = [CUT] * 9
    with pytest.raises(FetchError, match=r"photos/0.jpg: the server answers 500 .*, 4 tries"):
        read_bytes(folder / "0.jpg")
    with pytest.raises(PhotoError, match=r"photos/1.jpg: does not come \(the answer was cut short, 4 tries\)"):
        load_photo(folder / "1.jpg", 30, "called otherwise")
    assert server.asked["photos/0.jpg"] == server.asked["photos/1.jpg"] == reading.TRIES


def test_what_is_not_there_is_asked_for_once(server: PhotoServer) -> None:
    folder = Address.parse(f"{server.url}/photos")
    with pytest.raises(AbsentError, match="is not there"):
        read_bytes(folder / "none.jpg")
    with pytest.raises(PhotoError, match=r"photos/none.jpg: no such photo"):
        photo_size(folder / "none.jpg")
    server.faults["photos/0.jpg"] = [403]
    with pytest.raises(FetchError, match=r"the server answers 403 Forbidden$"):
        read_bytes(folder / "0.jpg")
    assert server.asked["photos/none.jpg"] == 2
    assert server.asked["photos/0.jpg"] == 1


def test_an_answer_that_does_not_come_is_not_waited_for_without_end(
    server: PhotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Address.parse(f"{server.url}/photos")
    read_bytes(folder / "5.jpg")
    monkeypatch.setattr(reading, "SECONDS", 0.5)
    server.faults["photos/0.jpg"] = [HANG]
    assert read_bytes(folder / "0.jpg") == photo(0)
    server.faults["photos/1.jpg"] = [HANG] * 9
    with pytest.raises(FetchError, match=r"no answer within 0.5 s, 4 tries"):
        read_bytes(folder / "1.jpg")


def test_a_machine_that_never_answers_ends_the_command(
    server: PhotoServer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with socket.socket() as taken:  # bound and not listening: a connection is refused
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UnreachableError, match=rf"^{nobody}: cannot be reached \(Connection refused"):
            load_photo(Address.parse(nobody) / "0.jpg", 30)
        (tmp_path / "l.txt").write_text("0.jpg\n1.jpg\n")
        for words in ([f"{nobody}/photos"], [tmp_path / "l.txt", "--images", nobody]):
            assert run("extract", *words, "-o", tmp_path / "d.h5", *NETWORK) == 1
            lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("WARNING")]
            assert [line.partition(" (")[0] for line in lines] == [f"error: {nobody}: cannot be reached"]
    assert not (tmp_path / "d.h5").exists()


def test_a_server_without_lists_is_read_by_a_list(
    server: PhotoServer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    server.lists = False
    with pytest.raises(DataError, match=r"/photos: cannot be listed \(.*403 Forbidden\); give a .txt list of names"):
        photos_of(Address.parse(f"{server.url}/photos"))
    (tmp_path / "l.txt").write_text("0.jpg\nnone.jpg\n3.jpg\n")
    server.faults["photos/3.jpg"] = [500] * 9
    assert (
        run("extract", tmp_path / "l.txt", "--images", f"{server.url}/photos", "-o", tmp_path / "d.h5", *NETWORK) == 0
    )
    assert read_descriptors(tmp_path / "d.h5").names == ["0.jpg"]
    said = capsys.readouterr().err
    assert "2 photos could not be read" in said
    assert f"{server.url}/photos/none.jpg: no such photo" in said
    assert f"{server.url}/photos/3.jpg: does not come (the server answers 500" in said


def test_hard_names_are_listed_and_asked_for_rightly(server: PhotoServer, tmp_path: Path) -> None:
    put(tmp_path / "served" / "hard one", [*HARD_NAMES, ".hidden/x.jpg"])
    folder = Address.parse(f"{server.url}/hard one")
    assert photos_below(folder) == photos_below(tmp_path / "served" / "hard one")
    assert sorted(files_below(folder)) == sorted(HARD_NAMES)
    for name in HARD_NAMES:
        assert read_bytes(folder / name) == (tmp_path / "served" / "hard one" / name).read_bytes()


@pytest.mark.parametrize(
    "link",
    [
        'href="plan%20%281%29.jpg"',
        'href="plan (1).jpg"',
        "href=plan%20(1).jpg",
        "HREF='./plan%20%281%29.jpg'",
        'title=">" href="/at%20%5B1%5D/plan%20%28%31%29.jpg"',
        'href="//HOST/at%20[1]/plan%20(1).jpg"',
        'href="https://HOST/at%20%5b1%5d/plan%20(1).jpg"',
        'href="http://HOST/at [1]/plan&#32;(1).jpg"',
    ],
)
def test_a_link_may_be_quoted_in_any_way(server: PhotoServer, link: str) -> None:
    server.page = f"<![x[ <!-- <a href=old.jpg> --> <a {link.replace('HOST', server.url.partition('//')[2])}>a</a>"
    server.page += "<a href='?C=N;O=D'> <a href='../'> <a href='/'> <a href='/plan.jpg'> <a href='./'> <a href='#top'>"
    server.page += (
        "<a href='http://['> <a href='http://elsewhere/at%20[1]/b.jpg'> <a href='mailto:c.jpg'> <a name=d.jpg>"
    )
    server.page += "<a href='%2e%2e/'> <a href='e%2Ff.jpg'> <a href='%00.jpg'> <a href='deep/g.jpg'>"
    assert files_below(Address.parse(f"{server.url}/at [1]")) == ["plan (1).jpg"]


def test_a_page_may_say_what_its_links_are_relative_to(server: PhotoServer) -> None:
    server.page = '<base href="/photos/"><a href="1.jpg">1</a> <a href="1.jpg"><img src="icon.png"></a>'
    assert files_below(Address.parse(f"{server.url}/photos")) == ["1.jpg"]


def test_a_resumed_extraction_sees_that_a_photo_elsewhere_changed(server: PhotoServer, tmp_path: Path) -> None:
    file, address = tmp_path / "served/photos/1.jpg", Address.parse(f"{server.url}/photos/1.jpg")
    before = photo_stamp(address)
    assert before == photo_stamp(address)
    os.utime(file, (1_000_000_000, 1_000_000_000))
    later = photo_stamp(address)
    file.write_bytes(photo(9)[:-1])
    assert len({before, later, photo_stamp(address), photo_stamp(address / "none.jpg")}) == 4
    assert photo_stamp(address / "none.jpg") is None


def test_many_photos_are_waited_for_together(server: PhotoServer, tmp_path: Path) -> None:
    put(tmp_path / "served" / "many", [f"{i:02d}.jpg" for i in range(40)])
    server.delay = 0.05
    photos = photos_of(Address.parse(f"{server.url}/many"))
    sizes = PhotoSizes()
    sizes.look_at(photos.sources)
    assert 4 <= server.most_at_once <= reading.AT_ONCE
    assert all(sizes(source) == (40, 30) for source in photos.sources)
    assert {server.asked[f"many/{name}"] for name in photos.keys} == {1}


# Commands.


def test_models_elsewhere_make_the_same_index(far_world: PhotoServer, world: Path, tmp_path: Path) -> None:
    root = f"http://me:secret@{far_world.url.removeprefix('http://')}/world"
    assert run("build-index", root, "-o", tmp_path / "i.h5", "--jobs", 2, "--quiet") == 0
    far, near = read_whole(tmp_path / "i.h5"), read_whole(world / "i.h5")
    assert set(far.models.photo_root) == {
        root.replace("http://me:secret@", "http://").replace("/world", path.split("served", 1)[1])
        for path in near.models.photo_root
    }
    assert read_header(tmp_path / "i.h5").fingerprint == read_header(world / "i.h5").fingerprint
    for name in (*TABLES, "inside", "spots"):
        one, other = getattr(far, name, None), getattr(near, name, None)
        for field in vars(one) if one is not None else ():
            assert field == "photo_root" or np.array_equal(getattr(one, field), getattr(other, field)), (name, field)
    for path in tmp_path.rglob("*"):
        assert b"secret" not in path.read_bytes()


def test_photos_elsewhere_of_models_here(far_world: PhotoServer, world: Path, tmp_path: Path) -> None:
    (scene,) = {Path(root).relative_to(world / "served") for root in read_whole(world / "i.h5").models.photo_root[:1]}
    model = next((world / "served" / scene.parent).rglob("cameras.*")).parent
    (tmp_path / "model").mkdir()
    for file in model.iterdir():
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    there = f"{far_world.url}/{scene.as_posix()}"
    for images in (there, f"{tmp_path / 'model'}={there}"):
        words = ["--images", images, "-o", tmp_path / "i.h5", "--force", "--quiet"]
        assert run("build-index", tmp_path / "model", *words) == 0
        index = read_whole(tmp_path / "i.h5")
        assert index.models.photo_root == [there]
        assert index.images.has_photo.all()


def test_a_worker_of_another_machine_reads_models_elsewhere(far_world: PhotoServer, world: Path) -> None:
    with local_roots([Address.parse(f"{far_world.url}/world")]) as local:
        found = [find_files(location, Wanted()) for location in local.find_models()]
        travelled = pickle.dumps(jobs_of(found, Path("/nowhere"), Wanted()))
    # The mirror is gone, as it never was on the worker's machine.
    read = [read_models(job) for job in pickle.loads(travelled)]
    assert [failed for _, failed in read] == [[]] * len(read)
    assert sum(len(part.models) for part, _ in read if part is not None) == len(read_whole(world / "i.h5").models.name)


@pytest.mark.parametrize("place", ["scene/castle.nvm", "scene/bundle/bundle.out"])
def test_a_root_elsewhere_may_be_a_file(server: PhotoServer, tmp_path: Path, place: str) -> None:
    file = tmp_path / "served" / place
    put(tmp_path / "served/scene/images", ["0.jpg", "1.jpg"])
    file.parent.mkdir(parents=True, exist_ok=True)
    pose = "1 0 0\n0 1 0\n0 0 1\n0 0 0\n"
    if file.suffix == ".nvm":
        views = "".join(f"images/{i}.jpg 500 1 0 0 0 {i} 0 0 0 0\n" for i in range(2))
        file.write_text(f"NVM_V3\n\n2\n{views}\n1\n0 0 5 9 9 9 2 0 0 1 1 1 0 2 2\n0\n")
    else:
        cameras = 2 * f"500 0 0\n{pose}"
        file.write_text(f"# Bundle file v0.3\n2 1\n{cameras}0 0 -5\n9 9 9\n2 0 0 1 1 1 0 2 2\n")
        (tmp_path / "served/scene/list.txt").write_text("images/0.jpg\nimages/1.jpg\n")
    address = f"{server.url}/{place}"
    assert run("build-index", address, "-o", tmp_path / "i.h5", "--quiet") == 0
    assert run("build-index", file, "-o", tmp_path / "near.h5", "--quiet") == 0
    far, near = read_whole(tmp_path / "i.h5"), read_whole(tmp_path / "near.h5")
    assert (far.models.photo_root, far.images.has_photo.tolist()) == ([f"{server.url}/scene"], [True, True])
    assert (far.models.name, far.images.key) == (near.models.name, near.images.key)
    far_photos = ["--images", f"{address}={server.url}/photos", "--force", "--quiet"]
    for photo_file in (tmp_path / "served/scene/images").iterdir():
        photo_file.unlink()
    assert run("build-index", address, "-o", tmp_path / "i.h5", *far_photos) == 0


def test_a_root_that_is_not_listed_says_what_to_do(server: PhotoServer, capsys: pytest.CaptureFixture) -> None:
    server.lists = False
    assert run("build-index", f"{server.url}/photos", "-o", "i.h5") == 1
    said = capsys.readouterr().err
    assert "403 Forbidden); check the address; where its server lists no folders, copy the models here" in said
    assert said.count("\n") == 1


def test_a_build_that_was_interrupted_goes_on(
    far_world: PhotoServer, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise DataError("the merge", "was interrupted")

    words = ["build-index", f"{far_world.url}/world", "-o", tmp_path / "i.h5", "--jobs", 2, "--quiet"]
    with monkeypatch.context() as patched:
        patched.setattr("sfm2tuples.ingest.build._merge", interrupted)
        patched.setattr("sfm2tuples.ingest.jobs.GROUP_BYTES", 1)
        assert run(*words) == 1
        points = [path for path in far_world.asked if "points3D" in path]
        before = sum(far_world.asked[path] for path in points)
        patched.setattr("sfm2tuples.ingest.build._merge", interrupted)
        assert run(*words, "--resume") == 1
        # Each is asked for its size and version, and is not read again.
        assert sum(far_world.asked[path] for path in points) == before + len(points)
    assert run(*words, "--resume") == 0
    assert read_header(tmp_path / "i.h5").fingerprint == read_header(world / "i.h5").fingerprint


def test_a_model_that_does_not_come_is_left_out(
    far_world: PhotoServer, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = next((world / "served").rglob("points3D.*"))
    name = path.relative_to(world / "served").as_posix()
    far_world.faults[name] = [404, 404, *[404] * 9]
    assert run("build-index", f"{far_world.url}/world", "-o", tmp_path / "i.h5", "--quiet") == 0
    assert len(read_whole(tmp_path / "i.h5").models.name) == len(read_whole(world / "i.h5").models.name) - 1
    assert f"{far_world.url}/{name}: does not come (is not there)" in capsys.readouterr().err


def test_a_root_without_models_is_called_by_its_address(server: PhotoServer, capsys: pytest.CaptureFixture) -> None:
    assert run("build-index", f"{server.url}/photos", "-o", "i.h5") == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {server.url}/photos: holds no model")
    assert said.count("\n") == 1


@pytest.fixture
def far_index(far_world: PhotoServer, tmp_path: Path) -> Path:
    """The index of the world whose models and photos lie elsewhere."""
    assert run("build-index", f"{far_world.url}/world", "-o", tmp_path / "i.h5", "--quiet") == 0
    return tmp_path / "i.h5"


def test_descriptors_and_tuples_are_those_of_local_photos(far_index: Path, world: Path, tmp_path: Path) -> None:
    assert run("extract", far_index, "-o", tmp_path / "d.h5", *NETWORK) == 0
    assert (tmp_path / "d.h5").read_bytes() == (world / "d.h5").read_bytes()
    assert run("mine-tuples", far_index, "-o", tmp_path / "t.h5", *NETWORK, *MINING) == 0
    assert read_header(tmp_path / "t.h5").fingerprint == read_header(world / "t.h5").fingerprint
    far, near = read_tuples(tmp_path / "t.h5"), read_tuples(world / "t.h5")
    assert all(is_address(root) for root in far.images.root)
    rows = np.arange(len(near.images.key))
    groups = [rows[:3].tolist(), rows[3:4].tolist(), rows[4:].tolist()]
    with TuplePhotos(near, 64, workers=0) as local:
        wanted = list(local.in_order(groups))
    for decoders in (THREADS, PROCESSES):
        with TuplePhotos(far, 64, workers=2, decoders=decoders) as photos:
            for found, expected in zip(photos.in_order(groups), wanted, strict=True):
                assert all((one == other).all() for one, other in zip(found, expected, strict=True))


def test_a_photo_that_is_gone_is_left_out_of_tuples(
    far_world: PhotoServer, far_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    index = read_whole(far_index)
    root, name = index.models.photo_root[0].removeprefix(far_world.url).lstrip("/"), index.images.name[0]
    far_world.faults[f"{root}/{name}"] = [404] * 99
    assert run("mine-tuples", far_index, "-o", tmp_path / "t.h5", *NETWORK, *MINING, "--pack-images", 64) == 0
    assert f"1 photo cannot be read and is left out, first: {far_world.url}/{root}/{name}: no such photo" in (
        capsys.readouterr().err
    )
    assert index.images.key[0] not in read_tuples(tmp_path / "t.h5").images.key


def test_the_other_commands_read_photos_elsewhere(far_index: Path, world: Path, tmp_path: Path) -> None:
    assert run("extract-features", far_index, "-o", tmp_path / "f.h5", "--image-size", 64, "--quiet") == 0
    assert run("whiten", far_index, "-o", tmp_path / "w.h5", *NETWORK, "--shrinkage", 0.1) == 0
    assert run("evaluate", "--index", far_index, "-o", tmp_path / "e.json", *NETWORK) == 0
    assert run("report", tmp_path / "e.json", "-o", tmp_path / "evaluation", "--quiet") == 0
    assert run("mine-tuples", far_index, "-o", tmp_path / "t.h5", "--descriptors", world / "d.h5", *MINING) == 0
    assert run("report", tmp_path / "t.h5", "-o", tmp_path / "tuples", "--quiet") == 0
    assert all(list((tmp_path / page / "photos").iterdir()) for page in ("evaluation", "tuples"))
    files = ["--queries", world / "d.h5", "--database", world / "d.h5"]
    windows = ["--rerank", "R:2", "--photos", far_index, "--backbone", "squeezenet1_1"]
    assert run("search", *files, *windows, "-o", tmp_path / "r.h5", "--quiet") == 0
    training = ["--rounds", 1, "--queries-per-round", 2, "--image-size", 48, "--backbone", "squeezenet1_1"]
    assert run("train", tmp_path / "t.h5", "-o", tmp_path / "run", *training, "--num-negatives", 1, "--quiet") == 0


def test_a_bucket_of_s3(
    world: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    moto, _ = pytest.importorskip("moto.server"), pytest.importorskip("s3fs")
    for name, value in (("KEY_ID", "key"), ("KEY", "secret")):
        monkeypatch.setenv(f"AWS_{'ACCESS' if name == 'KEY_ID' else 'SECRET_ACCESS'}_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*running.get_host_and_port()))
        store = fsspec.filesystem("s3", skip_instance_cache=True)
        store.mkdir("bucket")
        put(tmp_path / "photos", HARD_NAMES)
        for name in HARD_NAMES:
            store.pipe(f"bucket/photos/{name}", (tmp_path / "photos" / name).read_bytes())
        there = photos_of(Address.parse("s3://bucket/photos"))
        assert there.keys == photos_of(tmp_path / "photos").keys
        for name, source in zip(there.keys, there.sources, strict=True):
            assert (load_photo(source, 30) == load_photo(tmp_path / "photos" / name, 30)).all()
        with pytest.raises(PhotoError, match=r"s3://bucket/photos/none.jpg: no such photo"):
            load_photo(Address.parse("s3://bucket/photos/none.jpg"), 30)
        assert run("extract", "s3://nobucket/photos", "-o", tmp_path / "d.h5", *NETWORK) == 1
        assert "s3://nobucket/photos: cannot be listed" in capsys.readouterr().err
        store.put(str(world / "served" / "world"), "bucket/world", recursive=True)
        assert run("build-index", "s3://bucket/world", "-o", tmp_path / "i.h5", "--quiet") == 0
        assert read_header(tmp_path / "i.h5").fingerprint == read_header(world / "i.h5").fingerprint
    finally:
        running.stop()
