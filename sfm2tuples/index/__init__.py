"""`index.h5`: its tables, and reading it by rows.

Read `schema` first (every table and column), then `opened` (what a program asks of an index); `splits` names
the two sides. Imports `readers` (the
names of camera models) and `files`.
"""
