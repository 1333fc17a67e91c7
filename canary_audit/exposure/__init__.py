"""Exposure: the rank of a canary among all secrets, counted, estimated, and as the paper estimates it."""
