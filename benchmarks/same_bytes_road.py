"""The road of `same_bytes`: every command of ours on a few real photos, in two lanes that need nothing of each other."""

# ruff: noqa: E501 - a command is a line, however long

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

NETWORK = "--backbone squeezenet1_1 --weights {data}/weights/squeezenet1_1.npz --image-size 96"
TUNED = "--network run/best.pt --image-size 96"
SCENES = " ".join(
    f"{{data}}/reconstructions/{name}" for name in ("castle_p19", "castle_p30", "desk", "entry_p10", "monstree")
)
LANDMARKS = " ".join(f"{{data}}/collection_models/{name}" for name in ("petra", "paris_sacrecoeur"))
PHOTOS_OF_LANDMARKS = " ".join(f"--images {root}={{data}}/collection/images" for root in LANDMARKS.split())
PHOTOS = "--images {data}/collection/images"
FEW = f"inputs/few.csv {PHOTOS}"
TEACHER = "--teacher bow.h5 --num-verified 10"
STOPPED = "stopped"
"""Name of the training that is interrupted in its second round, so that the next step resumes it."""

NETWORK_LANE = f"""
index:           build-index {SCENES} {LANDMARKS} -o index.h5 {PHOTOS_OF_LANDMARKS} --val-share 0.3
tuples:          mine-tuples index.h5 -o tuples.h5 {NETWORK} --query-share 1 --queries-per-place 4 --num-negatives 3 --pack-images 96
described:       extract index.h5 -o described.h5 {NETWORK}
tuples_m1:       mine-tuples index.h5 -o tuples_m1.h5 {NETWORK} --positives m1 --negatives N1 --distractors inputs/few.csv --num-positives 2 --num-negatives 3 --pool ends+random:100
tuples_m2:       mine-tuples index.h5 -o tuples_m2.h5 --descriptors described.h5 --positives m2 --negatives semi-hard --margin 0.2 --max-angle 40 --query-share 0.3 --num-negatives 3 --seed 5
tuples_ivf:      mine-tuples index.h5 -o tuples_ivf.h5 --descriptors described.h5 --search ivf --negatives N1 --query-share 0.5 --max-negative-similarity 0.9 --num-queries 20 --json
{STOPPED}:         train tuples.h5 -o run {NETWORK} --rounds 3 --queries-per-round 12 --seed 1
resumed:         train tuples.h5 -o run --resume
augmented:       train tuples.h5 -o augmented {NETWORK} --pooling gem-channels --loss triplet --rounds 1 --queries-per-round 10 --flip 0.5 --colour 0.2 --crop 0.8 --warm-up 3 --chunked --seed 2
graded:          train tuples_m2.h5 -o graded {NETWORK} --recipe tpami18 --loss graded-contrastive --rounds 1 --queries-per-round 10 --no-remine --optimiser sgd --photos-per-forward 4
lw:              whiten tuples.h5 -o lw.h5 {TUNED} --dim 64
layer:           train tuples.h5 -o layer {NETWORK} --whitening-layer lw.h5 --output-dim 32 --rounds 1 --queries-per-round 8
pca:             whiten index.h5 -o pca.h5 {TUNED} --scales 1,0.7071 --method pca --dim 64 --split all
scales:          extract index.h5 -o scales.h5 {TUNED} --scales 1,0.7071 --whitening pca.h5 --dim 32
few:             extract {FEW} -o few.h5 {TUNED} --whitening lw.h5
hloc:            extract {FEW} -o hloc.h5 {TUNED} --layout hloc
rmac:            extract {FEW} -o rmac.h5 {NETWORK} --pooling rmac --whole-image --scales 1,0.5 --exponent 2
search:          search --queries few.h5 --database few.h5 -o ranks.h5 --pairs pairs_of_search.txt --qe alpha:10:3 --dba average:3 --num-results 20
search_windows:  search --queries few.h5 --database few.h5 -o ranks_windows.h5 --network run/best.pt --photos {FEW} --whitening lw.h5 --rerank R:10 --qe average:3
sfm:             evaluate --index index.h5 {TUNED} --whitening lw.h5 -o sfm.json
labels:          evaluate --labels {FEW} --descriptors few.h5 -o labels.json
labels_windows:  evaluate --labels {FEW} {TUNED} --whitening lw.h5 --rerank R:10 --qe average:3 -o labels_windows.json
cirtorch:        export --format cirtorch tuples.h5 -o retrieval-SfM-mine
cirtorch_net:    export --format cirtorch run/best.pt -o network.pth --whitening lw.h5
imported:        import-tuples retrieval-SfM-mine/retrieval-SfM-mine.pkl -o imported.h5 {NETWORK} --num-negatives 3 --pool random:100 --pack-images 64
page_of_tuples:  report tuples.h5 -o page_of_tuples --num-tuples 6
page_compared:   report labels.json -o page_compared --compare labels_windows.json --num-queries 2 --num-ranked 4 --photo-size 160
"""

OTHER_LANE = f"""
whole_index:     build-index {{data}}/reconstructions {{data}}/collection_models -o whole_index.h5 --places {{data}}/reconstructions/places.csv --images {{data}}/collection_models={{data}}/collection/images
two_jobs:        build-index {{data}}/reconstructions -o two_jobs.h5 --jobs 2 --min-shared 15 --seed 3 --no-join-scenes --json
lean:            upgrade whole_index.h5 -o lean.h5 --keep graph
broken:          build-index {{data}}/broken -o broken.h5
broken_strict:   build-index {{data}}/broken -o broken_strict.h5 --strict
small_index:     build-index {{data}}/reconstructions/entry_p10 {{data}}/reconstructions/fountain_p11 -o small_index.h5 --val-share 0.5
pairs:           export --format pairs whole_index.h5 -o pairs.txt --num-matched 5 --names key
graphml:         export --format graphml small_index.h5 -o graph.graphml --min-shared 20
features:        extract-features small_index.h5 -o features.h5 --image-size 320 --max-features 300
label_features:  extract-features {FEW} -o label_features.h5 --image-size 256 --max-features 200 --jobs 2 --no-affine-shape --first-octave 0
domain_sizes:    extract-features {{data}}/reconstructions/entry_p10/images -o domain_sizes.h5 --image-size 200 --max-features 100 --domain-size-pooling
small_bow:       build-bow features.h5 -o small_bow.h5 --num-words 128 --turns 3
bow:             build-bow label_features.h5 -o bow.h5 --num-words 256 --turns 3 --samples-per-word 20 --num-nearest 2 --learn-from features.h5
more_words:      build-bow label_features.h5 -o more_words.h5 --num-words 64 --turns 2 --seed 7
short:           shorten-bow bow.h5 more_words.h5 -o short.h5 --dim 32
teacher:         evaluate --labels {FEW} {TEACHER} --num-expanded 3 --hamming 24 --geometry affine -o teacher.json
both:            evaluate --labels {FEW} {NETWORK} {TEACHER} -o both.json
sfm_teacher:     evaluate --index small_index.h5 --teacher small_bow.h5 --power 0.5 -o sfm_teacher.json
geometry:        evaluate --labels {FEW} --descriptors short.h5 --rerank geometry:10 --features label_features.h5 --min-inliers 8 --qe average:3 -o geometry.json
search_geometry: search --queries short.h5 --database short.h5 -o ranks_geometry.h5 --rerank geometry:5 --features label_features.h5 --geometry homography
search_ivf:      search --queries short.h5 --database short.h5 -o ranks_ivf.h5 --engine ivf --nprobe 3 --min-similarity 0.1 --include-self
foreign:         import-descriptors inputs/foreign.npy -o foreign.h5 --columns
holidays:        evaluate --protocol holidays --data {{data}}/collection/images --descriptors foreign.h5 --qe alpha:5:3 -o holidays.json
oxford:          evaluate --protocol oxford5k --data {{data}}/ground_truth --rankings {{data}}/ground_truth/published/oxford5k_rank_based_voting/ranks -o oxford.json
place:           evaluate --protocol place-recognition --data small_index.h5 {NETWORK} --max-distance 2 -o positions.json --json
page_of_both:    report both.json -o page_of_both --num-queries 2 --num-ranked 4
"""
DEMO = "demo: demo -o demo --seed 1"
FAILING = ("broken_strict", STOPPED)
"""Steps that must end with an error."""
INSPECTED = {
    "network": ("tuples.h5", "tuples_ivf.h5", "hloc.h5", "ranks.h5", "lw.h5", "run/best.pt", "network.pth"),
    "other": ("broken.h5", "whole_index.h5", "features.h5", "bow.h5", "ranks_geometry.h5", "short.h5"),
}
"""Files that `inspect` is asked about at the end of each lane."""


@dataclass(frozen=True)
class Step:
    """One command of the road."""

    name: str
    words: tuple[str, ...]

    @property
    def fails(self) -> bool:
        """Whether the command must end with an error."""
        return self.name in FAILING


def lanes(data: Path, demo: bool) -> tuple[list[Step], list[Step]]:
    """The steps of each lane in order; with `demo` the built-in world's road too, which takes as long as all others."""
    other = OTHER_LANE + (DEMO if demo else "")
    return [*_steps(NETWORK_LANE, data), *_inspections("network")], [*_steps(other, data), *_inspections("other")]


def _steps(text: str, data: Path) -> list[Step]:
    steps = []
    for line in text.strip().splitlines():
        name, command = line.split(":", 1)
        steps.append(Step(name, tuple(word.format(data=data) for word in shlex.split(command))))
    return steps


def _inspections(lane: str) -> list[Step]:
    return [Step(f"inspect_{file.replace('/', '_')}", ("inspect", "--all", file)) for file in INSPECTED[lane]]
