"""Builds whose disk is full or whose cluster goes away: one line, parts that stay, and the same bytes in the end.

`python -m benchmarks failures` does the same at scale; killed workers are in `test_cluster` and
`test_extract_on_cluster`, where a full disk of an extraction is too.
"""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hand_made import write_binary_model

from benchmarks.failures import Failures, make_inputs
from sfm2tuples.errors import DataError
from sfm2tuples.ingest.build import IngestOptions, build_index
from sfm2tuples.ingest.part_building import Progress
from sfm2tuples.parts.work_folder import part_files, work_path


def test_a_full_disk_is_one_line_and_room_lets_the_build_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for row in range(5):
        write_binary_model(
            tmp_path / f"models/{row}/sparse/0", [f"{i}.jpg" for i in range(8)], 9000 + 500 * row, shift=row
        )
    build_index([tmp_path / "models"], tmp_path / "expected.h5", IngestOptions())
    target, limits = tmp_path / "index.h5", resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(progress: Progress) -> None:
        if progress.models == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))

    try:
        with pytest.raises(DataError) as error:
            build_index([tmp_path / "models"], target, IngestOptions(), progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(work_path(target)) in str(error.value)
    assert str(error.value).endswith(".part: File too large; make room, and run again with --resume")
    assert "what was done is kept" in caplog.text
    assert len(part_files(work_path(target))) == 2
    assert [path.name for path in work_path(target).iterdir() if path.name.startswith(".")] == []
    seen: list[Progress] = []
    build_index([tmp_path / "models"], target, IngestOptions(), resume=True, progress=seen.append)
    assert seen[0].models == 2
    assert target.read_bytes() == (tmp_path / "expected.h5").read_bytes()


@pytest.mark.timeout(400)
def test_a_scheduler_that_restarts_ends_the_command_in_one_line_and_resume_goes_on(tmp_path: Path) -> None:
    make_inputs(tmp_path, models=12, photos=0, observations=20_000)
    wrong, what = Failures(tmp_path, "build-index", workers=1).restarted_scheduler(down=0.5)
    assert wrong == "", what
