"""Print A2Net's tables for any feature set."""
