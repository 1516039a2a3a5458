"""Run OpenVINO files, and read what they carry without the library."""
