"""The parts of the configuration that `deployments.config` puts together, one subject each."""
