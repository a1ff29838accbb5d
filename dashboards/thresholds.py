"""From where on an alert speaks, in one place: change a figure here, then run scripts/generate."""

DAEMON_AWAY = "5m"
"""A restart, an update or a reboot of a node takes less."""

SOURCE_DOWN = "12m"
"""Longer than a release for a driver upgrade lasts (10 min unless told otherwise), shorter than the 15 min after which
the baseline of a counter is given up and its joules are lost."""
SOURCE_STALE_S = 120.0
"""The slowest source of our own is read every 5 s; one of a third party may take a minute."""
DENIED = "5m"
"""A source that is denied is tried every minute."""
UNMEASURED_RATIO = 0.1
"""Of an hour: six minutes of joules that nobody will ever know."""

INTERVAL_ENDED_S = 2 * 3600.0
"""Every feed publishes within the hour after its interval; carried values end 3 h after it."""
FEED_SILENT_S = 2 * 3600.0
"""Every provider is asked at the pace it publishes, at least once an hour."""
CARRIED_S = 3600.0
"""A value is carried for less while a feed is well: some publish half an hour late, day and night."""
FALLBACK = "1h"
"""A provider that is away for less has cost nothing: figures settle later by what it tells then."""
MARGINAL_ONLY = ("watttime",)
"""Providers that tell no average: with none beside them a yearly value is what was asked for."""

GPUS = ("gpu", "module")
"""Components: a module is the reading where the GPU in it has none."""
IDLE_RATIO = 0.05
"""Work that computes is resident for more of the time; a desktop or a monitor is not."""
IDLE = "30m"
"""Loading data before the first step takes less."""
STUCK = "30m"
"""Between two steps of any training lies less; an evaluation may last longer."""
ABOVE_IDLE_RATIO = 1.2
"""A GPU that spins in a collective call draws half as much again as an idle one."""
NEAR_LIMIT_RATIO = 0.97
"""Of the limit in force: the regulator holds the mean just below it."""
NEAR_LIMIT = "15m"
"""Longer than one phase of a run."""
THROTTLED_RATIO = 0.1
"""Of the time: less is a short burst of heat."""
FAULTS = ("thermal", "board_limit", "reliability")
"""What slows a device down and should not. Its power limit, little to do and waiting for others are no faults."""

FORECAST = "10m"
"""The first hundredths of a run are not its pace."""
OVER = "0s"
"""A budget that is exceeded stays exceeded: there is nothing to wait for."""

LEDGER_LAG_S = 3.0
"""From there on what is shown is not what a restart would know."""
ENDED_RUNS = "30m"
"""How far back run totals look: beyond the 15 min that an ended run stays exported, a restart included, and no further:
Prometheus reads every sample of the range at each evaluation (0.6 s for 6,000 series every 15 s, on two slow cores)."""
REQUEUED_RUNS = "6h"
"""How long what a node used of a run is remembered after it is exported no more: a job that is requeued may wait."""
