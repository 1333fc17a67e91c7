"""Membership inference: scores of single texts, and how well they tell members from others."""
