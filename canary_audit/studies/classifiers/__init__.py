"""Small classifiers on small data sets: what the four papers measured, in seconds on a processor."""
