"""The inference graph that a SavedModel holds: what decides class, p_spherocyte and countable."""
