"""Sections of pages: one module each, each with a function that makes them from what the page read.

A new section is a module here and a line in a page's list in `report`. Imports the rest of the room `reports`.
"""
