"""Repair of labels: instance masks, refined outlines, undone stretching and hidden marks."""
