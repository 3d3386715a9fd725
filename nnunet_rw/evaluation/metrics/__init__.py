"""What is measured of one case."""
