"""The built-in world: buildings to photograph, their photos, and the models made from them.

Read `synthetic` first: it writes a world; `corridor` writes a site of one model. Then `places` and `buildings`, which
say what stands there, `walls`, which says how it looks, `solids`, of which all is made, and `rendering`, which takes
photos. Imports `files` and `compute`.
"""
