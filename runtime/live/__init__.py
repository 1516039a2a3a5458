"""Watch several sources at once, for days: read, reconnect, detect, report."""
