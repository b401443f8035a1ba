"""Honest data, networks and training: hands the export room a `.keras` file and its input spec."""
