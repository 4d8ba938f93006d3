"""Cores, processes, memory, progress and keyed random draws.

`threads` runs loops over blocks of rows, `worker_pools` runs jobs in processes, `memory` says how much there is, and
`random_draws` draws by seed and item, `progress_bars` says how far a long step is, `locks` keeps two processes from
writing one file. Imports only `errors`.
"""
