"""The only conversion factors of the project: a quantity enters and leaves through one of these."""

JOULES_PER_KILOWATTHOUR = 3_600_000.0
JOULES_PER_MILLIJOULE = 1e-3
JOULES_PER_MICROJOULE = 1e-6
GRAMS_PER_KILOGRAM = 1000.0
KILOGRAMS_PER_POUND = 0.45359237
WATTS_PER_MILLIWATT = 1e-3
WATTS_PER_MICROWATT = 1e-6


def kilowatthours(energy_j: float) -> float:
    """Energy in kWh."""
    return energy_j / JOULES_PER_KILOWATTHOUR
