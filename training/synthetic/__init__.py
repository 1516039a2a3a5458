"""Make synthetic videos whose classes differ only in motion."""
