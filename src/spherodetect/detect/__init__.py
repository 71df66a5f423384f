"""Detection: a model folder as a function from an image to its cells."""
