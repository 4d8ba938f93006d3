"""The convolutional part of a network: one file a family.

`backbone` says what each must be. Imports nothing else of `networks`.
"""
