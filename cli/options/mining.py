"""The flags of `MiningOptions`: one a field, with the same name and default."""

from __future__ import annotations

from typing import Any

import click

from cli.options.fields import field_options
from sfm2tuples.mining.options import NEGATIVES, POSITIVES, SEARCHES, MiningOptions, PoolStrategy


class PoolType(click.ParamType):
    """The strategy that `--pool` names."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PoolStrategy:
        """Parse the text; the default is no text."""
        return value if isinstance(value, PoolStrategy) else PoolStrategy.of(value)


_FLAGS: dict[str, tuple[Any, str]] = {
    "positives": (
        click.Choice(POSITIVES),
        "m1 nearest by descriptor, m2 most shared points, m3 random among the allowed",
    ),
    "negatives": (click.Choice(NEGATIVES), "N1 nearest, N2 nearest with one a place, random, semi-hard"),
    "num_positives": (int, "positives of a tuple"),
    "num_negatives": (int, "negatives of a tuple; 2 with --inside"),
    "inside": (bool, "negatives inside a place, where models prove them  [default: where places are too few]"),
    "num_candidates": (int, "images with most shared points that positives are chosen from"),
    "min_overlap": (float, "m3: least share of the query's points that the positive sees"),
    "max_scale_change": (float, "m3: most change of scale between query and positive"),
    "min_shared": (int, "least number of shared points of a positive"),
    "max_angle": (float, "largest viewing angle between query and positive, degrees  [default: no limit]"),
    "max_overlap": (
        float,
        "near-duplicates, with more overlap both ways, are no positives  [default: 0.95 with --inside, else no limit]",
    ),
    "across": (
        str,
        "m3: prefer positives of other sequences: auto (by folders, names, cameras, EXIF), no, or a regular expression "
        "whose match in a key is its sequence  [default: auto with --inside, else no]",
    ),
    "query_share": (
        float,
        "share of a place's images that become queries, rounded up; 1/4 with --inside",
    ),
    "queries_per_place": (int, "most queries of one place; with --inside of one spot"),
    "num_queries": (
        int,
        "most queries in all, the places taking turns  [default: no limit; with --inside all photos once]",
    ),
    "pool": (PoolType(), "images that negatives are chosen from: ends+per-place:N, ends+random:N, random:N"),
    "margin": (float, "semi-hard: how much farther than the positive a negative may be"),
    "max_negative_similarity": (float, "more similar images are no negatives  [default: no limit]"),
    "search": (click.Choice(SEARCHES), "ivf looks into inverted lists and may miss some; for pools beyond a million"),
    "seed": (int, "seed of every draw"),
}
mining_flags = field_options(MiningOptions, _FLAGS)
"""Adds the flags to a command and passes it a `MiningOptions` as `options`."""
