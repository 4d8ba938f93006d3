"""Structure-from-Motion models to training tuples: readers, co-visibility, places, mining, files."""

__version__ = "0.1.0"
