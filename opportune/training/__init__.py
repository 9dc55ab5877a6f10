"""The one training loop: packing, loss, schedule, checkpoints."""
