"""`python -m tisseract`, also for `torchrun -m tisseract train ...`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
