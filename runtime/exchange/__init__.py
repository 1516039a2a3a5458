"""Read and write the files of other tools: annotation tools, editors, data sets; one module per format or family."""
