"""Classification: a target for every class of any image classifier."""
