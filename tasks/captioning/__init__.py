"""Captioning: a target for every word of a caption, a span of it, or the whole."""
