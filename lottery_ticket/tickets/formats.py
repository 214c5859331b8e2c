"""What a trained ticket is exported as."""

FORMATS = {"onnx": ".onnx", "state-dict": ".safetensors", "torch-prune": "-torch-prune.safetensors"}
"""Format → the ending of such files."""
