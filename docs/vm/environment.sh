# What every `ray start` of a Penstock cluster is told; read it (`. environment.sh`) before `ray` and `serve`, too.
# Secrets are in ~/.penstock/secrets.sh (mode 600, on each node): OPENAI_API_KEY, PENSTOCK_LEDGER_URL and the like.
export RAY_AUTH_MODE=token
export RAY_SERVE_ENABLE_HA_PROXY=1
export RAY_SERVE_THROUGHPUT_OPTIMIZED=1
export RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP=1
export RAY_worker_niceness=0
export RAY_USAGE_STATS_ENABLED=0
export RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS=1
export RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S=0.5
export RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S=2
export OPENBLAS_NUM_THREADS=1
export RAY_task_events_report_interval_ms=0
export RAY_SERVE_CONTROL_LOOP_INTERVAL_S=0.25
export RAY_SERVE_METRICS_EXPORT_INTERVAL_MS=2000
export RAY_SERVE_HAPROXY_METRICS_ENABLED=0
export RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=deployments.ingress:middlewares

# HAProxy's own ports on loopback, and no list of routes (deployments/starting/haproxy.py).
export RAY_SERVE_HAPROXY_BINARY_PATH="$HOME/penstock/.haproxy/haproxy"
export RAY_SERVE_HAPROXY_METRICS_PORT=9101
export RAY_SERVE_HAPROXY_STATS_PORT=8404

# A machine that is shut down in order gives its streams so long.
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=655

export PYTHONPATH="$HOME/penstock"
export PATH="$HOME/penstock/.venv/bin:$PATH"
if [ -r "$HOME/.penstock/secrets.sh" ]; then . "$HOME/.penstock/secrets.sh"; fi
