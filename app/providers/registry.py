"""Finds the providers: every module of this package that has a `provider`."""

import importlib
import pkgutil
from functools import cache

import app.providers
from app.providers.base import Provider


@cache
def providers() -> dict[str, Provider]:
    """All providers by key, sorted."""
    modules = (
        importlib.import_module(f"app.providers.{info.name}")
        for info in pkgutil.iter_modules(app.providers.__path__)
    )
    found = [module.provider for module in modules if hasattr(module, "provider")]
    return {provider.key: provider for provider in sorted(found, key=lambda provider: provider.key)}
