"""What the locustfiles are made of: readers of the lanes, what they check, and the users that read."""
