"""Run networks: one module per engine library behind one protocol, each importing its library only when used."""

from runtime.engines.base import Engine
from runtime.engines.options import EngineOptions
from runtime.engines.registry import open_engine

__all__ = ["Engine", "EngineOptions", "open_engine"]
