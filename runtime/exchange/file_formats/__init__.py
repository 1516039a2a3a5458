"""Read and write the formats, a module for each format or family of formats."""
