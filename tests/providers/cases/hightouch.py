"""Hightouch, whose calls in Knock's shapes are its events."""

from tests.providers.cases._reverse_etl import CASE as case

__all__ = ["case"]
