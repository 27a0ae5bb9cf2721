"""The application builders that `ray_config.yaml` imports: the only place that wraps classes for Serve.

Serve asks for typed arguments by the builder's annotation, which must therefore be a class and no string: this
module does without `from __future__ import annotations`.

Above it: `serve run`, `serve deploy`. Below it: the replicas and their settings.
"""

from typing import Any

from ray import serve
from ray.serve import Application

from deployments.config import GatewaySettings, ProviderSettings, ReplicaSettings
from deployments.gateway import Gateway
from deployments.load.scaling import by_streams_in_flight
from deployments.provider_replica import ProviderReplica
from deployments.settings.scaling_settings import AutoscalingSettings

TELLING = 2.0
"""Seconds between two words of a replica to the controller on its streams."""

DRAINING_PERIOD = 30.0
"""Seconds that Serve itself keeps a leaving replica before it asks it to end."""


def gateway(settings: GatewaySettings) -> Application:
    """The gateway: the routed lane, and the handle that other Ray jobs use."""
    deployment = serve.deployment(serve.ingress()(Gateway))
    return deployment.options(name="Gateway", **_options(settings)).bind(settings)


def provider(settings: ProviderSettings) -> Application:
    """One provider: its direct lane, and the hop from the gateway."""
    deployment = serve.deployment(serve.ingress()(ProviderReplica))
    return deployment.options(name="Provider", **_options(settings)).bind(settings)


def _options(settings: ReplicaSettings) -> dict[str, Any]:
    """Serve's limits stand above our own, so that ours answer first and in the caller's dialect."""
    most = settings.concurrent + settings.queued
    scaling = settings.autoscaling
    number = {"autoscaling_config": _autoscaling(scaling)} if scaling else {"num_replicas": settings.replicas}
    return {
        **number,
        "max_replicas_per_node": settings.per_node,
        "max_ongoing_requests": most + 100,
        "max_queued_requests": most + 100,
        "ray_actor_options": {"num_cpus": settings.cpus},
        "graceful_shutdown_timeout_s": DRAINING_PERIOD + settings.drain + 15.0,
        "graceful_shutdown_wait_loop_s": 0.2,
        # Three misses in a row: a replica that hangs is given up after some 10 s.
        "health_check_period_s": 1.0,
        "health_check_timeout_s": settings.health_timeout,
        # In a rolling update the new replica is there before the old one goes.
        "max_surge_percent": 100,
    }


def _autoscaling(settings: AutoscalingSettings) -> dict[str, Any]:
    """Serve's bounds and delays around our own policy."""
    return {
        "min_replicas": settings.min_replicas,
        "max_replicas": settings.max_replicas,
        "target_ongoing_requests": settings.target_in_flight,
        "upscale_delay_s": settings.upscale_delay,
        "downscale_delay_s": settings.downscale_delay,
        "metrics_interval_s": TELLING,
        "look_back_period_s": 5 * TELLING,
        "policy": {"policy_function": by_streams_in_flight},
    }
