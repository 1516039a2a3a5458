"""Fine-tune a quantised network and search the settings of its quantisation."""
