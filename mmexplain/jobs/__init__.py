"""Many inputs: a manifest in, a store out, on one machine or on several, resumable."""
