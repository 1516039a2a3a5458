"""Prepare data sets: THUMOS14, ActivityNet, a user's own videos, feature files."""
