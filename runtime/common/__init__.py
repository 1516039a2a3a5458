"""Hold what every stage uses: atomic files, dataclasses from mappings, console, tables, growing .npy files."""
