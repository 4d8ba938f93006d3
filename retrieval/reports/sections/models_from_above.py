"""The largest models of an index seen from above."""

from __future__ import annotations

from collections.abc import Iterator

from retrieval.reports.index_page import IndexPage
from retrieval.reports.page import Section


def sections(page: IndexPage) -> Iterator[Section]:
    """A card for each model, in the colour of its place."""
    index, cards = page.index, []
    for model in page.largest_models:
        place, view = int(index.models.place[model]), page.plan_of(model)
        images = len(index.rows_of_model(model))
        cards.append({
            "name": index.models.name[model],
            "place": index.places.name[place],
            "hue": page.hue(place),
            "view": view,
            "images": images,
            "points": int(index.models.point_start[model + 1] - index.models.point_start[model]),
        })  # fmt: skip
    values = {"cards": cards, "total": len(index.models.name), "has_points": index.has_points}
    yield Section("models", "Models from above", values, "models_from_above.html.j2", "Models")
