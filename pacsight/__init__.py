"""The composition root: settings, the durable workflow, the processes and the command line."""

from importlib.metadata import version

__version__ = version("pacsight")
