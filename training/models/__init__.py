"""The networks: backbone, pyramid, heads, boundary pooling."""
