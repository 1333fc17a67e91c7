"""P-values, intervals and power behind a verdict: numpy and scipy.special only, and no model in sight."""
