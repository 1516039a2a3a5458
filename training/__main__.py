"""Run `afsd train …` as `python -m training …`; on several GPUs: `torchrun --nproc-per-node=N -m training …`."""

import sys

from runtime.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
