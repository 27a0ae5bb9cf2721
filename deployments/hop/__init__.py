"""From a gateway replica to a provider replica: `asking` what, `link` and `door` its two ends, `wire` between."""
