"""The pixel size of a field: given, from a burnt-in scale bar, or from the red cells."""
