"""``python -m posix_shm``."""

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
