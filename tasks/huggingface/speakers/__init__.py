"""Families of models that write about a photo, a file each."""
