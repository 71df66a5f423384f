"""Many patients on a Ray cluster, and in cloud storage. The cluster needs the extra [ray]."""

from spherodetect.cohort.score import score_cohort

__all__ = ["score_cohort"]
