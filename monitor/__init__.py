"""trainwatt: meters the energy of training runs and prices it in carbon."""

__version__ = "0.1.0"
