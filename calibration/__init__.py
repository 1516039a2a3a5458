"""INT8: which clips, which ranges, where Q/DQ goes, what it costs. So far one step for building and timing engines."""
