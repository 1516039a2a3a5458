"""INT8: which clips, which ranges, where Q/DQ goes, what it costs. Not part of this release."""
