"""Take in videos: bodies and forms of requests, addresses, paths below a root, within limits of size and disk."""
