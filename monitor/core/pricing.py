"""What energy is priced with in one turn: slots by zone, in order of preference, and what is counted beside grams."""

from collections.abc import Sequence

from monitor.core.carbon import cost_of, grams_of, marginal_grams, price
from monitor.core.model import Device, Intensity, Method, Rate, Sample, Signal
from monitor.core.snapshot import EmissionsKey, Extras, Policy
from monitor.core.units import GRAMS_PER_KILOGRAM, JOULES_PER_KILOWATTHOUR

SECONDS_PER_YEAR = 365.25 * 86_400.0


class Tariff:
    """The slots of one grid zone."""

    def __init__(self, slots: Sequence[Intensity], pue_ratio: float) -> None:
        """`slots` are those of the zone, of both signals."""
        self._pue_ratio = pue_ratio
        self._slots = [slot for slot in slots if slot.signal is Signal.AVERAGE]
        self.marginal = [slot for slot in slots if slot.signal is Signal.MARGINAL]

    def price(
        self, energy_j: float, start_s: float, end_s: float, method: Method, into: Sequence[dict[EmissionsKey, float]]
    ) -> float:
        """Add the grams of energy used over [start, end) of Unix time; return the joules that have no price."""
        for slot in self._slots:
            if slot.valid_from_s < end_s and start_s < slot.valid_until_s:
                if slot.valid_from_s <= start_s and end_s <= slot.valid_until_s:
                    # Nearly always the first that tells of the time tells of all of it.
                    key = (method, slot.basis, slot.quality)
                    emissions_g = grams_of(energy_j, slot, self._pue_ratio)
                    for sums in into:
                        sums[key] = sums.get(key, 0.0) + emissions_g
                    return 0.0
                break
        priced = price(energy_j, start_s, end_s, self._slots, self._pue_ratio)
        for grams in priced.grams:
            key = (method, grams.basis, grams.quality)
            for sums in into:
                sums[key] = sums.get(key, 0.0) + grams.emissions_g
        return priced.unpriced_j


class Prices:
    """The tariffs of a turn, made when a zone is first needed, and what is counted beside grams."""

    def __init__(self, policy: Policy, sample: Sample) -> None:
        self._policy = policy
        self._slots = sample.intensities
        self._rates: Sequence[Rate] = sample.grid.rates if policy.currency else ()
        self._tariffs: dict[str, Tariff] = {}
        factors = (policy.market_grams_per_kilowatthour, policy.water_liters_per_kilowatthour)
        self.has_extras = bool(
            self._rates
            or policy.embodied_g_per_s
            or any(factor is not None for factor in factors)
            or any(slot.signal is Signal.MARGINAL for slot in self._slots)
        )
        """Whether anything beside grams is to be counted."""

    def zone_of(self, device: Device) -> str:
        """Grid zone that feeds the device; "" = none is known."""
        policy = self._policy
        return policy.zones.get(device.id) or policy.zone or "" if policy.zones else policy.zone or ""

    def tariff(self, zone: str) -> Tariff:
        """Of one zone; one that is not known prices nothing."""
        known = self._tariffs.get(zone)
        if known is None:
            slots = [slot for slot in self._slots if slot.zone == zone] if zone else []
            known = self._tariffs[zone] = Tariff(slots, self._policy.pue_ratio)
        return known

    def extras(self, device: Device, energy_j: float, start_s: float, end_s: float, reserved_s: float) -> Extras:
        """What energy of a run over [start, end) of Unix time comes to beside its grams.

        `reserved_s` is the run's part of the time of the device: embodied grams go by time, not by joules (SCI
        specification 1.1, M = TE x TS x RS).
        """
        policy = self._policy
        kilowatthours = energy_j / JOULES_PER_KILOWATTHOUR
        rate_g = policy.embodied_g_per_s.get(device.id)
        if rate_g is None:
            rate_g = policy.embodied_g_per_s.get(device.component, 0.0)
        marginal = self.tariff(self.zone_of(device)).marginal
        pue_ratio = policy.pue_ratio
        return Extras(
            marginal_grams(energy_j, start_s, end_s, marginal, pue_ratio) if marginal else 0.0,
            rate_g * reserved_s,
            kilowatthours * pue_ratio * (policy.market_grams_per_kilowatthour or 0.0),
            cost_of(energy_j, start_s, end_s, self._rates, pue_ratio) if self._rates else 0.0,
            kilowatthours * (policy.water_liters_per_kilowatthour or 0.0),
        )


def embodied_g_per_s(kilograms: float, years: float) -> float:
    """Grams of CO2e for each second of reserved time: what making a device emitted, spread over its expected life."""
    return kilograms * GRAMS_PER_KILOGRAM / (years * SECONDS_PER_YEAR)
