"""Accuracy of a model on labelled fields; needs no Model Garden."""
