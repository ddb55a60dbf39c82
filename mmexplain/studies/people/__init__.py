"""Studies with people: the page that asks, and what is made of the answers."""
