"""One user's models, network and descriptors in a folder: `tune` makes it, `ask` is asked of it.

`tuning` is the road and `steps` its steps; `request` what was asked for. `inventory` looks at the user's folders,
`facts` at the index, `choices` decides with reasons, `effort` by the clock; `reconstruct` is for photos without models.
`state` knows what was made of what, `site_files` where. `candidates` and `comparison` choose the network that is kept.
`photo_list` and `database` are what is searched, `photo_gathering` finds it, `adding` adds to it; `questions` asks,
`verification` looks closer;
`site_page` and `answer_page` are to look at. Imports every other room of `retrieval`, and is imported by the commands
alone.
"""
