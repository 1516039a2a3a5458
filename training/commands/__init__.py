"""Add the verbs of training to the command line."""
