"""Run a streaming network over a video: each frame once, then windows of features."""
