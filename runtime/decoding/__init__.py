"""Turn raw outputs of a network into scored candidate segments, one module per family."""
