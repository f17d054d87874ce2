"""From a recipe and a folder of labelled pictures to a checkpoint folder, and how good it is.

torch, MONAI and timm are imported only by the modules that train (``fit``, ``augment``,
``start_weights``, ``run``); recipes, data sets and metrics are readable without them.
"""
