"""Run `afsd calibrate …` as `python -m calibration …`."""

import sys

from runtime.cli import main

sys.exit(main(["calibrate", *sys.argv[1:]]))
