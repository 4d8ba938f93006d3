"""From a map of features to one vector: the formulas and the modules round them.

Read `formulas` first. Imports nothing else of `networks`.
"""
