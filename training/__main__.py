"""`python -m training …` is `afsd train …`; for several GPUs: `torchrun --nproc-per-node=N -m training …`."""

import sys

from runtime.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
