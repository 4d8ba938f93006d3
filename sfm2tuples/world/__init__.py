"""The built-in world: buildings that exist only here, their photos and exact models of them."""
