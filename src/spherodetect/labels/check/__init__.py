"""Checks of labels: lint, coverage of the cells by labels, and near-duplicate images."""
