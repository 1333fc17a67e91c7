"""Simulated servers for tests: a local model behind the APIs of vLLM, SGLang, llama.cpp and hosted services."""

from simulated.fault import Fault
from simulated.faults import FAULTS, faults_of
from simulated.model import SimulatedModel, folder_model, network_model, prose_table, table_model
from simulated.server import SHAPES, Recorded, SimulatedServer, simulated_server, simulation

__all__ = [
    "FAULTS",
    "SHAPES",
    "Fault",
    "Recorded",
    "SimulatedModel",
    "SimulatedServer",
    "faults_of",
    "folder_model",
    "network_model",
    "prose_table",
    "simulated_server",
    "simulation",
    "table_model",
]
