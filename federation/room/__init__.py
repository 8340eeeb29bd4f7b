"""The protocol's centre: rooms as graphs of signed events. Pure functions over values."""
