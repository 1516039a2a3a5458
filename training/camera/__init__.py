"""Make videos of camera moves and edits over real pictures and clips, with exact labels."""
