"""Which weights of a network learn, and what is kept of them: cheap training that cannot make a network worse.

Read `parts` (who learns), `low_rank` (LoRA), `moving_average`, and `adapted`, which holds them for a run; `shares` is
the choice between start and end. Imports `networks` and what is below, and the rest of `training` in `shares` alone.
"""
