"""One reader of text files: a byte order mark is skipped, other encodings are named."""

import ast
from pathlib import Path

import numpy as np
import pytest

from retrieval.evaluation.named_rankings import read_rankings
from retrieval.photos.labels import read_labels
from retrieval.photos.sources import photos_of
from retrieval.protocols.ground_truth_files import read_ground_truth
from sfm2tuples.errors import DataError
from sfm2tuples.files.text import filled_lines, read_csv, read_json, read_text
from sfm2tuples.interop.foreign_descriptors import read_foreign_descriptors
from sfm2tuples.readers.any_kind import read_model
from tests import test_bundler, test_nvm, test_readers
from tests.test_house import MODULES

MARK = b"\xef\xbb\xbf"
READERS = {Path("sfm2tuples") / name for name in ("files/text.py", "files/room.py", "compute/memory.py")}
"""Where texts are read: the one reader, and the kernel's own figures."""


@pytest.fixture
def write(tmp_path: Path):
    """Write bytes to a new file of the given name."""

    def written(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return written


@pytest.mark.parametrize("mark", [b"", MARK])
def test_lists_keep_their_first_line_behind_a_mark(write, mark):
    assert filled_lines(write("list.txt", mark + b"a.jpg\r\n\r\n b c.jpg\rd\x0ce.jpg\n")) == [
        "a.jpg",
        "b c.jpg",
        "d\x0ce.jpg",
    ]
    assert photos_of(write("photos.txt", mark + b"# some\na.jpg\n")).keys == ["a.jpg"]
    assert read_rankings(write("ranks.txt", mark + b"q.jpg a.jpg\n")) == {"q.jpg": ["a.jpg"]}


@pytest.mark.parametrize("mark", [b"", MARK])
def test_tables_and_json_keep_their_first_name_behind_a_mark(write, mark):
    assert read_labels(write("labels.csv", mark + b"image,label,role\na.jpg,x,query\n")).images == ["a.jpg"]
    assert read_csv(write("t.csv", mark + b"a,b\n1\n"), ("a",)) == [{"a": "1", "b": None}]
    assert read_json(write("x.json", mark + b'{"a": 1}')) == {"a": 1}
    assert read_ground_truth(write("gnd.json", mark + b'{"imlist": ["a"], "qimlist": [], "gnd": []}')).imlist == ["a"]


def test_names_of_descriptors_keep_their_first_behind_a_mark(write, tmp_path):
    np.save(tmp_path / "d.npy", np.eye(2, dtype=np.float32))
    write("d.txt", MARK + b"a.jpg\r\nb.jpg\r\n")
    assert read_foreign_descriptors(tmp_path / "d.npy").descriptors.names == ["a.jpg", "b.jpg"]


def test_models_in_texts_read_the_same_behind_a_mark(tmp_path):
    bundle, visual = test_bundler.write(tmp_path / "bundler"), test_nvm.write(tmp_path / "nvm")
    colmap = test_readers.write_rows(tmp_path / "colmap", images="1 1 0 0 0 0 0 0 1 a.jpg\n1 2 -1\n")
    before = [read_model(path) for path in (bundle, visual, colmap)]
    for file in (bundle, bundle.with_name("list.txt"), visual, *colmap.iterdir()):
        file.write_bytes(MARK + file.read_bytes())
    for plain, marked in zip(before, [read_model(path) for path in (bundle, visual, colmap)], strict=True):
        assert marked.image_names == plain.image_names
        np.testing.assert_array_equal(marked.observation_xy, plain.observation_xy)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "a.jpg\n".encode("utf-16"),
            r"is no text in UTF-8, but in UTF-16; save it as UTF-8 \(iconv -f UTF-16 -t UTF-8\)",
        ),
        ("a.jpg\n".encode("utf-32"), "but in UTF-32"),
        ("a.jpg\n".encode("utf-16-le"), "begins with a zero byte: it is text in UTF-16"),
        ("a.jpg\ncaf\xe9.jpg\n".encode("latin-1"), "is no text in UTF-8: line 2 holds the byte 0xe9, as Latin-1 does"),
    ],
)
@pytest.mark.parametrize("read", [read_text, filled_lines, read_json, lambda path: read_csv(path, ("a",))])
def test_other_encodings_are_named_in_one_line(write, content, said, read):
    with pytest.raises(DataError, match=said) as raised:
        read(write("list.txt", content))
    assert "\n" not in str(raised.value)


def test_texts_are_read_in_one_room():
    for module in MODULES:
        calls = [node for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        reads = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "read_text"]
        encoded = [call for call in calls if any(word.arg == "encoding" for word in call.keywords)]
        opened = [call for call in encoded if ast.unparse(call.func).endswith("open")]
        opens = [call for call in opened if not any(ast.unparse(word) == "'w'" for word in call.args)]
        assert not (reads or opens) or module.relative_to(Path(__file__).parents[1]) in READERS, module


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("image;label;role", "its columns are divided by semicolons, not by commas"),
        ("image\tlabel\trole", "its columns are divided by tabs, not by commas"),
        ("role|image|label", "its columns are divided by bars, not by commas"),
        ('"image";"label";"role"', "its columns are divided by semicolons, not by commas"),
        ('"image,label,role"', "its first line is one text in quotes"),
        ("Image, label,role", "has no column image, label, but 'Image', ' label'; the first line of such a table is"),
        ("photo,label,role", "has no column image; its first line is 'photo,label,role'; the first line of such"),
        ("", "has no column image, label, role; its first line is ''"),
    ],
)
def test_a_table_with_other_columns_says_what_its_first_line_is(write, first, said):
    with pytest.raises(DataError) as caught:
        read_labels(write("labels.csv", f"{first}\na.jpg,x,query\n".encode()))
    assert said in str(caught.value)


def test_a_list_that_names_a_photo_twice_is_at_fault_itself(write):
    with pytest.raises(DataError, match=r"list.txt: 1 name occurs more than once, first a.jpg; keep each once"):
        photos_of(write("list.txt", b"a.jpg\nb.jpg\n# a.jpg\na.jpg\n"))
