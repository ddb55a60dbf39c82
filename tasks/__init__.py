"""Task adapters: what turns a photo (and a text) into differentiable targets for the engine."""
