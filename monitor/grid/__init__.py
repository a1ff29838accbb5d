"""Where grams per kilowatt-hour come in."""
