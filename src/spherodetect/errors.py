"""The errors that a user can correct.

Each message names the file, what was expected, what was found, and the next step.
"""


class SpherodetectError(Exception):
    """Unusable input or usage. A command stops with exit code 2."""


class BadImageError(SpherodetectError):
    """An image that cannot be used. The other images of a folder are still processed."""


class BadLabelsError(SpherodetectError):
    """A label file, recipe or annotation that cannot be used."""


class BadModelError(SpherodetectError):
    """A model folder with missing, unsuitable or damaged files."""
