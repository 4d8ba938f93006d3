"""The version of this software, as every file of ours names it."""

__version__ = "0.1.0"
