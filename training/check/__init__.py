"""Look at data, memory, disk and time of a training before its hours are spent (`afsd train --check`)."""
