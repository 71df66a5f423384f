"""The errors that a user can mend. Their text names the file, what was expected, what came, and
what to do."""


class SpherodetectError(Exception):
    """Unusable input or usage: the command stops with exit code 2."""


class BadImageError(SpherodetectError):
    """One image that cannot be used; a folder's other images go on."""


class BadLabelsError(SpherodetectError):
    """A label file, recipe or annotation that cannot be used."""


class BadModelError(SpherodetectError):
    """A model folder with missing, foreign or damaged pieces."""
