"""Hold network parts that several families share: I3D, layers, normalisation, segments, multiply-adds."""
