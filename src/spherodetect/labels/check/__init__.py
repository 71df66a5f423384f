"""Checks of labels: lint, coverage and near-duplicates."""
