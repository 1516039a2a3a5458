"""Carry out `afsd detect`: settings, the job over a list of videos, what is printed."""
