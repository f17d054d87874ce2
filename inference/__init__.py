"""Model packages, routing, pixels to predictions.

Nothing here imports torch, OpenVINO or timm at import time except ``inference.networks``' builders,
``inference.operators`` and the back ends, and those only when a model is loaded.
"""
