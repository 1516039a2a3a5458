"""Cut detections out of videos: packets copied from the key frame before, or frames encoded anew to be exact."""
