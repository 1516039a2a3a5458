"""Make A2Net's tables on any feature set."""
