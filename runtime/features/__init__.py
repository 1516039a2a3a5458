"""Read, describe and make features of videos."""
