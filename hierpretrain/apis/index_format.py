"""What the files of an index are called."""

FORMAT = "hierpretrain.index.v3"
MANIFEST = "index.json"
CONFIG, WEIGHTS, ENCODER = "config", "weights", "encoder"
"""The parts of the model that an index carries: its config as data, its weights, and the encoder in ONNX."""
MODEL_PARTS = {CONFIG, WEIGHTS, ENCODER}
ENDINGS = {WEIGHTS: ".pth", ENCODER: ".onnx"}
"""The endings of parts that are not JSON."""
