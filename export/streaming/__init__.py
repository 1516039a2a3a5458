"""Rewrite a clip network's graph as a streaming backbone with explicit state and a head on its features."""
