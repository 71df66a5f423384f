"""The pixel size of a field: stated, from a burnt-in scale bar, or from the red cells."""
