"""Run the measurements behind docs/: ablations, engine tables, GPU reports, the shipped checkpoint."""
