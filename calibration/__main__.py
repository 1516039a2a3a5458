"""`python -m calibration …`: the verb `calibrate` of the command `afsd`."""

import sys

from runtime.cli import main

sys.exit(main(["calibrate", *sys.argv[1:]]))
