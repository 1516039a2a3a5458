"""Build and train AFSD (Lin et al., CVPR 2021)."""
