"""Build and train A2Net (Yang et al., TIP 2020)."""
