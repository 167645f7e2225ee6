"""``python -m posix_shm``."""

import sys

from ._cli import main

sys.exit(main())
