"""Counts of cells -> the HS score of a patient, with its interval, grade and status.

`counts` has the public functions, `interval` the estimate and its interval, `blank` the limit of
blank, `rates` the errors of a classifier, and `grades` the grade schemes.
"""
