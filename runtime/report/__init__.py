"""Write reports for a browser: a page per video, an index of several, the figures of an evaluation."""
