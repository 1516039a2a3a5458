"""Read decoded RGB frames from files, streams, cameras, folders of images and arrays, each frame with its time."""
