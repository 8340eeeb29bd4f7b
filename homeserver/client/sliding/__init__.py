"""Sliding sync as it is asked for and written: today's clients' way (`unstable`) and the accepted one (`stable`)."""
