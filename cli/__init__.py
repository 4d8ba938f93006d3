"""The command line: `main` finds a command, `commands` has one file each, `options` the flags that several share.

A command parses, calls one function, prints by `output`; `interruption` is what Ctrl-C does.
Imports `retrieval` and `sfm2tuples`.
"""

from __future__ import annotations

import os

# OpenMP's threads wait for each other by turning in a loop. On a machine that does other work too, one of them so waits
# for the time slice of another: 1,200 ms a photo in place of 12, and 105 with so many turns at most, which cost
# nothing on an idle machine (docs/performance.md). The number is read once, when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
