"""Formats that are made around poses, where tracks may be absent: nerfstudio's `transforms.json`, and kapture.

Read `transforms` first; `transforms_files` says which files are such. `kapture` reads cameras and poses,
`kapture_tracks` the points. A part of the room of readers: it imports what that does.
"""
