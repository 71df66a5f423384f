"""Counts of cells to the HS score of a patient; imports no image code."""
