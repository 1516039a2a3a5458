"""Work on many videos with Ray: on one machine or on a cluster, with Ray Data's actors."""
