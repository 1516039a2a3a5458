"""Build and train a two-stage detector on A2Net's proposals (TIP 2020, section III-G)."""
