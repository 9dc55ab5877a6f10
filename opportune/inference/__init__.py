"""The engine of the local backend: token trees, batched decoding, prefix reuse."""
