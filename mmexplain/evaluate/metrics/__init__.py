"""Numbers of a map and what it is held against: pure functions."""
