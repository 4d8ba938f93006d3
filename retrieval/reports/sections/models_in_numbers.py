"""How well the models of an index hold together, in the figures that COLMAP's `model_analyzer` gives of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from retrieval.reports.index_page import IndexPage
from retrieval.reports.page import Section

MOST = 200
"""Models in the table, those with the most images."""


def sections(page: IndexPage) -> Iterator[Section]:
    """A row for each model."""
    index = page.index
    start, total = index.models.image_start, len(index.models.name)
    # Sums over the images of a model, as differences of running sums: a model may have none.
    observed, photos = (
        np.diff(np.append(0, np.cumsum(column))[start]) for column in (index.num_observed(), index.images.has_photo[:])
    )
    num_images, num_points = np.diff(start), np.diff(index.models.point_start)
    rows = []
    for model in np.argsort(-num_images, kind="stable")[:MOST].tolist():
        images, points = int(num_images[model]), int(num_points[model])
        place = int(index.models.place[model])
        rows.append({
            "name": index.models.name[model],
            "place": index.places.name[place],
            "hue": page.hue(place),
            "numbers": [f"{number:,}" for number in (images, int(photos[model]), points)],
            "means": [_mean(observed[model], images), _mean(observed[model], points), _error(page, model)],
        })  # fmt: skip
    yield Section(
        "numbers", "Models in numbers", {"table": rows, "total": total}, "models_in_numbers.html.j2", "Numbers"
    )


def _mean(total: Any, count: int) -> str:
    return f"{total / count:,.1f}" if count else "-"


def _error(page: IndexPage, model: int) -> str:
    """Mean reprojection error of a model's points; COLMAP writes -1 where it is not known."""
    if not page.index.has_points:
        return "-"
    error = page.index.points.error[slice(*page.index.models.point_start[model : model + 2].tolist())]
    known = error[np.isfinite(error) & (error >= 0)]
    return f"{known.mean():.2f} px" if len(known) else "-"
