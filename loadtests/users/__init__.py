"""Locustfiles are made of these: readers of the lanes, what they check, and the users that read."""
