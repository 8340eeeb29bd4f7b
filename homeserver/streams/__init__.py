"""The order in which things became true here, who waits for them, and the tokens that name a place in it."""
