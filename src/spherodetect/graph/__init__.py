"""The inference graph of a SavedModel, which decides class, p_spherocyte and countable."""
