"""Serve detection over HTTP: jobs on uploaded and fetched videos, live frames, limits, metrics; see docs/service.md."""
