"""`python -m spherodetect` is the command `spherodetect`."""

import sys

from spherodetect.cli import main

if __name__ == "__main__":
    sys.exit(main())
