"""Hold, write and draw detections."""
