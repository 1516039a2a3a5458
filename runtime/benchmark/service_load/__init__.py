"""Load `afsd serve` with many clients at once, some of them hostile; see `__main__`."""
