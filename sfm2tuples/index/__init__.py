"""`index.h5`: its tables, and reading it by rows.

Read `schema` first (every table and column), then `opened` (what a program asks of an index). Imports `readers` (the
names of camera models) and `files`.
"""
