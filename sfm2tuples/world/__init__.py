"""The built-in world: buildings to photograph, their photos, and the models made from them.

Read `synthetic` first: it writes a world. Then `scenes`, which photographs a place; `places` and `buildings` say what
stands there, `walls`, `pictures` and `textures` how it looks, `solids` and `rendering` turn it into a photo by the
`weather` and `cameras`, and `observations` says which points the photo shows. Imports `files` and `compute`.
"""
