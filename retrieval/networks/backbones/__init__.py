"""The convolutional part of a network: one file a family.

`backbone` says what each must be. Imports the description of networks.
"""
