"""Make synthetic videos in which only motion tells the class."""
