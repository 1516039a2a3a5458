"""Turn a video, camera or array into the frames a model sees."""
