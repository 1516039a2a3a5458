"""`python -m runtime` is the command `afsd`."""

import sys

from runtime.cli import main

sys.exit(main())
