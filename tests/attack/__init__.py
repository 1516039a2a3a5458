"""Attacks on everything that reads or writes: mutated files and flags, kills, full disks, signals."""
