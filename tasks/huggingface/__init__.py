"""Adapters for models of HuggingFace transformers: loading, preprocessing, layers, a task for each kind of model."""
