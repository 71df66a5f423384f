"""The command `spherodetect`, and `python -m spherodetect`.

This module imports nothing of the command line by itself, so that Ctrl-C ends the command with one
line while its modules are imported.
"""

import sys


def run() -> int:
    """Run the command of this process and return its exit code."""
    try:
        from spherodetect.cli import main

        return main()
    except KeyboardInterrupt:
        sys.stderr.write("spherodetect: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(run())
