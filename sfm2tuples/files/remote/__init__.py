"""Files on other machines, read by way of fsspec: `s3://`, `gs://`, `https://` and `http://`.

Read `address` first (where such a file or folder lies, without its credentials), then `reading` (bytes, with tries and
a time limit), `listing` (what lies below a folder; `links` reads a web server's page of one) and `contents` (which
files have the same bytes). Nothing is written there. Imports `compute`.
"""
