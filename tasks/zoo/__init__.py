"""Small models that the project trained itself: safetensors files, each with a model card (JSON)."""
