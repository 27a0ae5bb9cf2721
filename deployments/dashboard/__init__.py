"""The dashboard: a page for a browser, and the one stream that keeps it live.

Above it: `gateway`. Below it: `visit`, `actors`. Outside it: the figures themselves, which have pages of their own
(`/v1/usage`, `/v1/performance`, `/v1/providers`, …) that scripts can read too.
"""
