"""Work through many videos: names, records of what is done, workers, failures."""
