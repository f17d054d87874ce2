"""Pacsight as others see it: metrics, probes, traces."""
