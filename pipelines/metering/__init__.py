"""What is measured, without I/O: cheap counters in every replica, their sums for the whole cluster in the router.

    instruments   every metric by name, with its help, labels and buckets
    meter         one replica's counters and histograms, and what of them has changed since it was last told
    recorder      what happened (a request's row, an attempt's outcome) as numbers in a meter
    cluster       what the router adds up of all meters

Above it: `actors.routing.router`, `actors.routing.client`, the replicas. Below it: `pipelines.ledger`'s rows, msgspec.
Outside it: Prometheus' text format.
"""
