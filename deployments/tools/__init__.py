"""Requests whose tools run here, and the HTTP that tools need."""
