"""Sections of pages. Each module has a function of that name, which makes one or more from what the page read.

A new section is a module here and a line in a page's list in `report`. Imports the rest of the room `reports`.
"""
