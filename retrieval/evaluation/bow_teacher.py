"""The BoW teacher under a protocol, beside a network or alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrieval.evaluation.refined_rankings import own_junk
from retrieval.local_features.bag_of_words import BagOfWords
from retrieval.metrics.results import Evaluation
from retrieval.protocols.benchmark import Benchmark
from retrieval.protocols.photo_names import PhotoNames, names_of
from retrieval.search.options import TeacherOptions
from retrieval.search.teacher import rank_by_words


@dataclass(frozen=True)
class Teacher:
    """A bag of words and how it answers."""

    bag: BagOfWords
    """Holds at least the photos of the protocol, queries among them."""
    options: TeacherOptions
    """How it is searched."""

    def names(self) -> PhotoNames:
        """Names of its photos."""
        return PhotoNames(self.bag.features.names, self.bag.features.path)

    def settings(self) -> dict[str, Any]:
        """What made its answers, as plain values."""
        return {"teacher": self.bag.features.settings | self.bag.options | self.options.as_dict()}

    def evaluate(self, benchmark: Benchmark, database: list[str], crop: str) -> dict[str, Evaluation]:
        """Answer the queries of a protocol; by setup.

        Parameters
        ----------
        benchmark : Benchmark
        database : list of str
            Names of the benchmark's database and of distractors behind them.
        crop : str
            One of `cropping.CROPS`; but for ``none`` only features inside of the queries' boxes count.

        Raises
        ------
        DataError
            A photo is not in the bag.
        UsageError
            The queries have no boxes.
        """
        boxes = benchmark.boxes_for(crop)
        called = self.names()
        asked = names_of(benchmark.queries, called, "the protocol")
        held = names_of(database, called, "the protocol")
        rankings = rank_by_words(self.bag, asked, held, own_junk(benchmark), self.options, boxes)
        return benchmark.evaluate(rankings, database)
