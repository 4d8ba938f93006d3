"""Networks, training, descriptors, search and protocols."""
