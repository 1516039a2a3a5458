"""Read ground truth: ActivityNet JSON and THUMOS'14's own files."""
