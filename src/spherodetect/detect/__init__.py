"""A model folder as a function: image in, cells out."""
