"""The tables of a site's folder with other values than `tune` wrote: one line, or what can be gone by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retrieval.site.photo_list import PhotoList, read_photo_list, write_photo_list
from retrieval.site.state import SiteState, Workshop
from sfm2tuples.errors import FileFormatError

pytestmark = pytest.mark.timeout(60)
VALUES = [None, 1, -1.5, "x", [], {}, [1], {"a": 1}]


def replaced(content: Any, value: Any) -> Iterator[Any]:
    """Copies of a JSON document, in each of which one part is another value."""
    yield value
    if not isinstance(content, (dict, list)):
        return
    for key, part in list(content.items() if isinstance(content, dict) else enumerate(content)):
        for other in replaced(part, value):
            changed = content.copy()
            changed[key] = other
            yield changed


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_list_of_photos_is_refused_or_of_the_right_kinds(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "photos.json"
    write_photo_list(path, PhotoList(["a", "b"], ["/p/a", "/p/b"], ["", "tower"], [[1, 2], [3, 4]]))
    refused = []
    for changed in replaced(json.loads(path.read_text()), value):
        path.write_text(json.dumps(changed))
        try:
            photos = read_photo_list(path)
        except FileFormatError as error:
            refused.append(str(error))
            continue
        assert all(isinstance(text, str) for text in photos.names + photos.files + photos.places)
        assert all(isinstance(number, int) for stamp in photos.stamps for number in stamp)
        assert len(set(photos.names)) == len(photos.files) == len(photos.places) == len(photos.stamps) == 2
    assert len(refused) > 4
    assert not [line for line in refused if "\n" in line or not line.endswith("run tune again")]


def test_a_list_that_holds_a_name_twice_is_refused(tmp_path: Path) -> None:
    write_photo_list(tmp_path / "photos.json", PhotoList(["a", "a"], ["/p/a", "/p/b"], ["", ""], [[1, 2], [3, 4]]))
    with pytest.raises(FileFormatError, match="holds a name twice; run tune again"):
        read_photo_list(tmp_path / "photos.json")


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_damaged_state_is_refused(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "state.json"
    workshop = Workshop(SiteState.read(path), print)
    workshop.make(tmp_path / "file", {"size": 3}, lambda _: (tmp_path / "file").touch())
    workshop.state.note(effort={"rounds": 3, 1: (0.1, float("nan"))}, added=["/p/\udcff"])
    whole = json.loads(path.read_text())
    assert SiteState.read(path).content.keys() == workshop.state.content.keys()
    for changed in replaced(whole, value):
        if json.dumps(changed) == json.dumps(whole):
            continue
        path.write_text(json.dumps(changed))
        remedy = "give [^\n]*another folder|run tune into a new folder"
        with pytest.raises(FileFormatError, match=rf"state\.json: is [^\n]*; ({remedy})"):
            SiteState.read(path)
