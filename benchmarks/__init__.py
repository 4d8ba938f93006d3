"""Benches and trials.

A bench does the same work by us and by the usual way, in one run; `make bench` prints all of them as one table. A trial
(`mutations`, `kills`, `full_disks`, `failures`) does what must not harm, often, and counts failures. Read `timing` or
`tiny_world` first.
"""
